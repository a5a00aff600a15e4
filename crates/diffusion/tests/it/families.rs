//! Every model family against diffusers and transformers, on generated miniatures.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::{CheckpointHeader, detect};
use comfy_diffusion::families::{Extras, Family, Side, Start};
use comfy_diffusion::sampling::{
    ConditioningEntry, Hooks, ModelInputs, NoisePredictor, Prediction, SampleRequest, SamplingError,
    SamplingModel, sample,
};
use comfy_diffusion::text::{ClipSkip, ClipTextEncoder, EmbeddingSet, TextEncoding};
use comfy_diffusion::{DiffusionModel, load_clip, load_model};

use crate::compare::assert_close;
use crate::models::Tiny;
use crate::random_checkpoint::{self as layouts, Layout};

const TEXT_TOLERANCE: f64 = 1e-5;
const UNET_TOLERANCE: f64 = 2e-5;
const SAMPLE_TOLERANCE: f64 = 1e-4;
/// The first step starts at a level of 4500, where a latent in f32 has three digits left behind the point.
const ZERO_SNR_TOLERANCE: f64 = 2e-3;

const PROMPTS: [(&str, &str); 2] = [("photo", "a photo of a cat"), ("weighted", "(cat:1.3)")];
/// Tokens of each chunk whose state is kept in the fixtures.
const KEPT: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 76];

struct Case {
    model: DiffusionModel,
    clip: ClipTextEncoder,
    goldens: HashMap<String, Tensor>,
}

struct Predictor<'a>(&'a DiffusionModel);

impl NoisePredictor for Predictor<'_> {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.0.forward(x, timestep, inputs).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}

/// Checks everything that the fixture of a layout holds.
fn check(layout: &Layout, family: &Family, prediction: Prediction) {
    let file = Tiny::of(layout);
    let detection = detect(&CheckpointHeader::read(&file.path).unwrap());
    assert_eq!((&detection.family, detection.family.refusal()), (family, None));
    assert!(detection.clip.is_some() && detection.vae.is_some());
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/families")
        .join(layout.name)
        .with_extension("safetensors");
    let case = Case {
        model: load_model(&file.path, &Device::Cpu, DType::F32, &[]).unwrap(),
        clip: load_clip(&file.path, &Device::Cpu, DType::F32, &[]).unwrap(),
        goldens: candle_core::safetensors::load(fixture, &Device::Cpu).unwrap(),
    };
    assert_eq!(case.model.prediction(), prediction);
    case.check_text();
    case.check_unet();
    if case.goldens.contains_key("sample") {
        let zero_snr = case.model.schedule().sigma_max() > 1000.0;
        assert_eq!(zero_snr, !layout.markers().is_empty());
        case.check_sample(if zero_snr { ZERO_SNR_TOLERANCE } else { SAMPLE_TOLERANCE });
    }
}

/// The kept tokens of every chunk.
pub fn kept(embedding: &Tensor) -> Tensor {
    let chunks = embedding.dim(1).unwrap() as u32 / 77;
    let index: Vec<u32> = (0..chunks).flat_map(|chunk| KEPT.map(|at| 77 * chunk + at)).collect();
    embedding.index_select(&Tensor::new(index, &Device::Cpu).unwrap(), 1).unwrap()
}

impl Case {
    fn encode(&self, prompt: &str, skip: ClipSkip) -> TextEncoding {
        self.clip.encode(prompt, skip).unwrap()
    }

    fn check_text(&self) {
        let long = ["cat"; 80].join(" ");
        for (name, prompt) in PROMPTS.into_iter().chain([("long", long.as_str())]) {
            let encoding = self.encode(prompt, ClipSkip::DEFAULT);
            let golden = |kind: &str| &self.goldens[&format!("{kind}_{name}")];
            assert_close(&format!("text {name}"), &kept(&encoding.embedding), golden("text"), TEXT_TOLERANCE);
            assert_close(&format!("pooled {name}"), &encoding.pooled, golden("pooled"), TEXT_TOLERANCE);
        }
        for skip in [-1, -3, -4] {
            let name = format!("text_skip{skip}");
            let encoding = self.encode(PROMPTS[0].1, ClipSkip::new(skip).unwrap());
            assert_close(&name, &kept(&encoding.embedding), &self.goldens[&name], TEXT_TOLERANCE);
        }
    }

    /// A prompt's entry for a picture of 64 by 96 pixels, where `sizes` do not say otherwise.
    fn entry(&self, prompt: &str, sizes: Extras, side: Side) -> ConditioningEntry {
        let encoding = self.encode(prompt, ClipSkip::DEFAULT);
        let extras = Extras { pooled: Some(encoding.pooled), ..sizes };
        let start = Start { latent: &empty_latent(), noise_mask: None, seed: 0 };
        let inputs = self.model.family().extra_inputs(&extras, side, &start).unwrap();
        ConditioningEntry { vector: inputs.vector, ..ConditioningEntry::new(encoding.embedding) }
    }

    fn check_unet(&self) {
        let other_sizes = Extras {
            height: Some(768.0),
            width: Some(1024.0),
            crop_h: Some(16.0),
            crop_w: Some(32.0),
            target_height: Some(512.0),
            target_width: Some(640.0),
            aesthetic_score: Some(7.5),
            ..Extras::default()
        };
        let entries = [
            self.entry(PROMPTS[0].1, Extras::default(), Side::Positive),
            self.entry(PROMPTS[1].1, other_sizes, Side::Positive),
        ];
        let vectors: Vec<&Tensor> = entries.iter().filter_map(|entry| entry.vector.as_ref()).collect();
        let inputs = ModelInputs {
            vector: (!vectors.is_empty()).then(|| Tensor::cat(&vectors, 0).unwrap()),
            concat: self.goldens.get("unet_concat").cloned(),
            ..ModelInputs::text(Tensor::cat(&[&entries[0].embedding, &entries[1].embedding], 0).unwrap())
        };
        let (x, timesteps) = (&self.goldens["unet_x"], &self.goldens["unet_timesteps"]);
        let found = self.model.forward(x, timesteps, &inputs).unwrap();
        assert_close("unet", &found, &self.goldens["unet_y"], UNET_TOLERANCE);
        // What a family takes besides the latent and the text is neither optional nor accepted in vain.
        let text = ModelInputs::text(inputs.context.clone());
        let plain = inputs.vector.is_none() && inputs.concat.is_none();
        assert_eq!(self.model.forward(x, timesteps, &text).is_ok(), plain);
        let vector = Some(Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap());
        assert!(self.model.forward(x, timesteps, &ModelInputs { vector, ..inputs }).is_err());
    }

    fn check_sample(&self, tolerance: f64) {
        let positive = [self.entry(PROMPTS[0].1, Extras::default(), Side::Positive)];
        let negative = [self.entry(PROMPTS[1].1, Extras::default(), Side::Negative)];
        let latent = empty_latent();
        let mut request = SampleRequest::new(&latent, &positive, &negative);
        (request.seed, request.steps, request.cfg) = (42, 4, 5.0);
        let scale = self.model.latent_scale();
        let predictor = Predictor(&self.model);
        let mut model = SamplingModel::new(&predictor, self.model.schedule(), scale);
        model.prediction = self.model.prediction();
        let found = sample(&model, &request, Hooks::default()).unwrap();
        assert_close("sample", &(found * scale).unwrap(), &self.goldens["sample"], tolerance);
    }
}

fn empty_latent() -> Tensor {
    Tensor::zeros((1, 4, 8, 12), DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn sd1_inpaint_agrees() {
    check(&layouts::TINY_SD1_INPAINT, &Family::Sd1Inpaint, Prediction::Epsilon);
}

#[test]
fn sd1_pix2pix_agrees() {
    check(&layouts::TINY_SD1_PIX2PIX, &Family::Sd1InstructPix2Pix, Prediction::Epsilon);
}

#[test]
fn sd2_agrees() {
    check(&layouts::TINY_SD2, &Family::Sd2, Prediction::Epsilon);
}

#[test]
fn sd2_with_velocities_agrees() {
    check(&layouts::TINY_SD2_V, &Family::Sd2, Prediction::Velocity);
}

#[test]
fn sd2_inpaint_agrees() {
    check(&layouts::TINY_SD2_INPAINT, &Family::Sd2Inpaint, Prediction::Epsilon);
}

#[test]
fn sdxl_agrees() {
    check(&layouts::TINY_SDXL, &Family::Sdxl, Prediction::Epsilon);
}

#[test]
fn sdxl_with_velocities_agrees() {
    check(&layouts::TINY_SDXL_V, &Family::Sdxl, Prediction::Velocity);
}

#[test]
fn sdxl_inpaint_agrees() {
    check(&layouts::TINY_SDXL_INPAINT, &Family::SdxlInpaint, Prediction::Epsilon);
}

#[test]
fn sdxl_pix2pix_agrees() {
    check(&layouts::TINY_SDXL_PIX2PIX, &Family::SdxlInstructPix2Pix, Prediction::Epsilon);
}

#[test]
fn a_distilled_sdxl_agrees() {
    check(&layouts::TINY_SDXL_DISTILLED, &Family::Sdxl, Prediction::Epsilon);
}

#[test]
fn sdxl_refiner_agrees() {
    check(&layouts::TINY_SDXL_REFINER, &Family::SdxlRefiner, Prediction::Epsilon);
}

#[test]
fn levels_too_narrow_for_their_heads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("narrow.safetensors");
    layouts::TOO_NARROW.write(&path).unwrap();
    let reason = load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap_err().to_string();
    assert!(reason.contains("32 channels do not split into attention heads that are 64 wide"), "{reason}");
}

#[test]
fn published_sizes_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let detect = |layout: &Layout| {
        let path = folder.path().join("header.safetensors");
        layout.write_header(&path).unwrap();
        detect(&CheckpointHeader::read(&path).unwrap())
    };
    for (layout, family, heads) in [
        (&layouts::SD15, Family::Sd1, vec![12]),
        (&layouts::SD2, Family::Sd2, vec![16]),
        (&layouts::SDXL, Family::Sdxl, vec![12, 20]),
        (&layouts::SSD_1B, Family::Sdxl, vec![12, 20]),
        (&layouts::SDXL_REFINER, Family::SdxlRefiner, vec![20]),
    ] {
        let detection = detect(layout);
        assert_eq!(detection.family, family, "{}", layout.name);
        let towers = detection.clip.unwrap();
        assert_eq!(towers.iter().map(|tower| tower.heads).collect::<Vec<_>>(), heads, "{}", layout.name);
    }
    assert_eq!(detect(&layouts::SD2_UNCLIP).family, Family::Sd2Unclip);
    let found = detect(&layouts::COSXL).family.refusal().unwrap();
    assert!(found.contains("CosXL"), "{found}");
}

#[test]
fn half_precision_stays_close() {
    // The families differ in what they keep in f32.
    for layout in [&layouts::TINY_SD2, &layouts::TINY_SDXL] {
        let file = Tiny::of(layout);
        let load = |dtype| load_model(&file.path, &Device::Cpu, dtype, &[]).unwrap();
        let (half, full) = (load(DType::F16), load(DType::F32));
        let config = full.unet().config();
        let x = crate::models::wave(&[1, 4, 8, 8], 0.2);
        let context = crate::models::wave(&[1, 77, config.context_dim], 0.4);
        let vector = config.adm_channels.map(|width| crate::models::wave(&[1, width], 0.6));
        let inputs = ModelInputs { vector, ..ModelInputs::text(context) };
        let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
        let run = |model: &DiffusionModel| model.forward(&x, &steps, &inputs).unwrap();
        let distance = crate::compare::distance(&run(&half), &run(&full));
        println!("{}: {distance:?}", layout.name);
        assert!(distance.cosine > 0.9999, "{distance:?}");
    }
}

#[test]
fn a_prompt_in_two_parts_fills_up_the_shorter() {
    let clip = load_clip(&Tiny::of(&layouts::TINY_SDXL).path, &Device::Cpu, DType::F32, &[]).unwrap();
    let (long, none) = (["cat"; 80].join(" "), EmbeddingSet::new());
    let same = clip.encode(&long, ClipSkip::DEFAULT).unwrap();
    let pair = clip.encode_pair([&long, &long], ClipSkip::DEFAULT, &none).unwrap();
    assert_close("the same text", &pair.embedding, &same.embedding, 1e-6);
    let pair = clip.encode_pair(["", &long], ClipSkip::DEFAULT, &none).unwrap();
    let empty = clip.encode("", ClipSkip::DEFAULT).unwrap().embedding;
    let narrow = |t: &Tensor, chunk: usize, channel: usize, channels: usize| {
        t.narrow(1, 77 * chunk, 77).unwrap().narrow(2, channel, channels).unwrap().contiguous().unwrap()
    };
    for chunk in [0, 1] {
        let (found, expected) = (narrow(&pair.embedding, chunk, 0, 64), narrow(&empty, 0, 0, 64));
        assert_close("the empty part", &found, &expected, 1e-6);
        let (found, expected) =
            (narrow(&pair.embedding, chunk, 64, 128), narrow(&same.embedding, chunk, 64, 128));
        assert_close("the long part", &found, &expected, 1e-6);
    }
    assert_close("pooled", &pair.pooled, &same.pooled, 1e-6);
    let one = load_clip(&Tiny::of(&layouts::TINY_SD2).path, &Device::Cpu, DType::F32, &[]).unwrap();
    let error = one.encode_pair(["a", "b"], ClipSkip::DEFAULT, &none).unwrap_err().to_string();
    assert!(error.contains("two text encoders"), "{error}");
}
