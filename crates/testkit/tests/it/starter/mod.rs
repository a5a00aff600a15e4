//! The starter checkpoint draws what a prompt asks for, judged by the pixels that the stack returns.

mod judge;
mod shapes;

use crate::client::{self, Txt2Img};
use crate::cluster::Cluster;
use crate::pictures::pixels;
use judge::{Verdict, judge};

const CHECKPOINT: &str = "starter.safetensors";
const SHAPES: [&str; 9] =
    ["circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring", "moon"];
const PROMPTS: usize = 40;

/// One prompt of the fixed list: which colour, shape and background, and the seed it is drawn with.
#[derive(Debug, Clone, Copy)]
struct Case {
    colour: &'static str,
    shape: &'static str,
    background: &'static str,
    seed: u64,
}

impl Case {
    /// The `i`-th case; strides without common factors walk through all colours, shapes and backgrounds.
    fn nth(i: usize) -> Self {
        let names = judge::COLOURS.map(|(name, _)| name);
        let colour = names[i * 5 % names.len()];
        let background = names[(i * 7 + 2 + i / names.len()) % names.len()];
        let background = if background == colour { names[(i * 5 + 6) % names.len()] } else { background };
        Self { colour, shape: SHAPES[i % SHAPES.len()], background, seed: 1000 + i as u64 }
    }

    fn prompt(&self) -> String {
        let article = |word: &str| if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let Self { colour, shape, background, .. } = self;
        format!("{} {colour} {shape} on {} {background} background", article(colour), article(background))
    }

    async fn draw(&self, cluster: &Cluster, cfg: f64) -> anyhow::Result<Vec<u8>> {
        draw(cluster, self.prompt(), "", self.seed, cfg).await
    }

    fn score(&self, png: &[u8]) -> Score {
        let (width, height, rgb) = pixels(png);
        let Verdict { background, colour, shape } = judge(width as usize, height as usize, &rgb);
        Score {
            background: background == self.background,
            colour: colour == Some(self.colour),
            shape: shape == Some(self.shape),
        }
    }
}

/// What a picture got right.
#[derive(Debug, Clone, Copy)]
struct Score {
    background: bool,
    colour: bool,
    shape: bool,
}

async fn draw(
    cluster: &Cluster,
    positive: String,
    negative: &str,
    seed: u64,
    cfg: f64,
) -> anyhow::Result<Vec<u8>> {
    let workflow = Txt2Img {
        checkpoint: CHECKPOINT,
        positive,
        negative: negative.to_owned(),
        steps: 20,
        seed,
        cfg,
        ..Txt2Img::default()
    };
    let job = client::submit(cluster, &workflow.api()).await?;
    client::picture(cluster, &job).await
}

#[tokio::test]
async fn the_starter_draws_what_forty_prompts_ask_for() -> anyhow::Result<()> {
    let cluster = Cluster::with_starter().await?;
    let (mut colours, mut shapes) = (0, 0);
    for case in (0..PROMPTS).map(Case::nth) {
        let score = case.score(&case.draw(&cluster, 5.0).await?);
        println!("{:60} {score:?}", case.prompt());
        colours += usize::from(score.colour && score.background);
        shapes += usize::from(score.shape);
    }
    println!("colours of object and background right in {colours} of {PROMPTS}, shape in {shapes}");
    assert!(colours * 10 >= PROMPTS * 9, "colours right in {colours} of {PROMPTS}, expected 90 %");
    assert!(shapes * 10 >= PROMPTS * 6, "shape right in {shapes} of {PROMPTS}, expected 60 %");
    Ok(())
}

/// Guidance leads away from the negative prompt: at cfg 1 there is none, so that prompt does not matter to a single
/// pixel; at cfg 7 it does, and no less of the prompt is right.
#[tokio::test]
async fn guidance_leads_away_from_the_negative_prompt() -> anyhow::Result<()> {
    let cluster = Cluster::with_starter().await?;
    let right =
        |score: Score| [score.background, score.colour, score.shape].map(usize::from).iter().sum::<usize>();
    let (mut without, mut with) = (0, 0);
    for case in (0..8).map(Case::nth) {
        let (plain, guided) = (case.draw(&cluster, 1.0).await?, case.draw(&cluster, 7.0).await?);
        assert_ne!(pixels(&plain), pixels(&guided), "{}", case.prompt());
        without += right(case.score(&plain));
        with += right(case.score(&guided));
        if case.seed % 4 == 0 {
            let away =
                |cfg| draw(&cluster, case.prompt(), "a green moon on a yellow background", case.seed, cfg);
            assert_eq!(pixels(&plain), pixels(&away(1.0).await?), "{}", case.prompt());
            assert_ne!(pixels(&guided), pixels(&away(7.0).await?), "{}", case.prompt());
        }
    }
    println!("of 24 properties right: {without} at cfg 1, {with} at cfg 7");
    assert!(with >= without, "{with} of 24 properties right at cfg 7, {without} at cfg 1");
    Ok(())
}

#[tokio::test]
async fn an_empty_prompt_gives_a_picture() -> anyhow::Result<()> {
    let cluster = Cluster::with_starter().await?;
    let (width, height, rgb) = pixels(&draw(&cluster, String::new(), "", 1, 5.0).await?);
    assert_eq!((width, height), (64, 64));
    assert!(rgb.iter().min() != rgb.iter().max(), "the picture is one flat colour");
    Ok(())
}
