use candle_core::{DType, Device, Tensor};
use comfy_diffusion::sampling::*;
use comfy_diffusion::text::ClipSkip;
use comfy_diffusion::*;
struct P<'a>(&'a DiffusionModel);
impl NoisePredictor for P<'_> {
    fn predict(&self, x: &Tensor, t: &Tensor, c: &Tensor) -> std::result::Result<Tensor, SamplingError> {
        self.0.forward(x, t, c).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let path = std::path::Path::new(&a[1]);
    let d = Device::Cpu;
    let t = std::time::Instant::now();
    let m = load_model(path, &d, DType::F32).unwrap();
    let clip = load_clip(path, &d, DType::F32).unwrap();
    let vae = load_vae(path, &d, DType::F32).unwrap();
    println!(
        "load {:?} bytes {} {} {}",
        t.elapsed(),
        m.weight_bytes(),
        clip.weight_bytes(),
        vae.weight_bytes()
    );
    if a[2] == "speed" {
        let t = std::time::Instant::now();
        let e = clip.encode("a photo of a cat", ClipSkip::LAST).unwrap().embedding;
        println!("clip {:?}", t.elapsed());
        let c = Tensor::cat(&[&e, &e], 0).unwrap();
        let x = Tensor::rand(-1f32, 1f32, (2, 4, 64, 64), &d).unwrap();
        let ts = Tensor::new(&[500f32, 500.], &d).unwrap();
        for _ in 0..3 {
            let t = std::time::Instant::now();
            m.forward(&x, &ts, &c).unwrap();
            println!("unet {:?}", t.elapsed());
        }
        for _ in 0..2 {
            let t = std::time::Instant::now();
            vae.decode(&x.narrow(0, 0, 1).unwrap()).unwrap();
            println!("vae {:?}", t.elapsed());
        }
        println!(
            "{}",
            std::fs::read_to_string("/proc/self/status")
                .unwrap()
                .lines()
                .find(|l| l.starts_with("VmHWM"))
                .unwrap()
        );
        return;
    }
    let colours = [
        ("red", [220., 40., 40.]),
        ("blue", [40., 60., 220.]),
        ("green", [40., 170., 60.]),
        ("yellow", [240., 220., 50.]),
    ];
    for seed in 0..10u64 {
        let (f, b) = (colours[seed as usize % 4], colours[(seed as usize + 1) % 4]);
        let e = |p: &str| [ConditioningEntry::new(clip.encode(p, ClipSkip::LAST).unwrap().embedding)];
        let p = e(&format!("a {} circle on a {} background", f.0, b.0));
        let img = smp(&m, &p, &e(""), seed, &vae);
        let s = img.dim(2).unwrap();
        let px = |y: usize, x: usize| {
            img.narrow(2, y, 4)
                .unwrap()
                .narrow(3, x, 4)
                .unwrap()
                .mean((2, 3))
                .unwrap()
                .squeeze(0)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .map(|v| ((v + 1.) * 127.5) as i32)
                .collect::<Vec<_>>()
        };
        println!(
            "{} on {}: centre {:?} corner {:?} {:?}",
            f.0,
            b.0,
            px(s / 2, s / 2),
            px(2, 2),
            px(s - 6, s - 6)
        );
    }
}
fn smp(
    m: &DiffusionModel,
    p: &[ConditioningEntry],
    n: &[ConditioningEntry],
    seed: u64,
    vae: &vae::Vae,
) -> Tensor {
    let l = Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let mut r = SampleRequest::new(&l, p, n);
    (r.seed, r.steps, r.cfg, r.sampler, r.scheduler) = (seed, 20, 5.0, "euler", "normal");
    let model =
        SamplingModel { predictor: &P(m), schedule: &NoiseSchedule::sd15(), latent_scale: m.latent_scale() };
    vae.decode(&sample(&model, &r, Hooks::default()).unwrap()).unwrap()
}
