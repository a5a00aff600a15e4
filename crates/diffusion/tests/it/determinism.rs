//! The same numbers again, whatever the number of threads.

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::sampling::{
    ConditioningEntry, Hooks, ModelInputs, NoisePredictor, SampleRequest, SamplingError, SamplingModel,
    sample,
};
use comfy_diffusion::text::ClipSkip;

use crate::models::TINY;

struct Predictor;

impl NoisePredictor for Predictor {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        TINY.model.forward(x, timestep, inputs).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}

/// A prompt to a picture, with all three parts of the checkpoint.
fn draw(threads: usize) -> [Tensor; 2] {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let entry = |text: &str| {
            [ConditioningEntry::new(TINY.clip.encode(text, ClipSkip::DEFAULT).unwrap().embedding)]
        };
        let (positive, negative) = (entry("a photo of a cat"), entry("blurry"));
        let latent = Tensor::zeros((1, 4, 16, 24), DType::F32, &Device::Cpu).unwrap();
        let mut request = SampleRequest::new(&latent, &positive, &negative);
        (request.seed, request.steps, request.cfg) = (7, 3, 6.0);
        request.sampler = "dpmpp_2m_sde";
        request.scheduler = "karras";
        let model = SamplingModel::new(&Predictor, TINY.model.schedule(), TINY.model.latent_scale());
        let latent = sample(&model, &request, Hooks::default()).unwrap();
        let picture = TINY.vae.decode(&latent).unwrap();
        [latent, picture]
    })
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn threads_change_nothing() {
    let alone = draw(1);
    // One again: a second run gives the same bits, too.
    for threads in [1, 2, 5] {
        for (what, (a, b)) in ["latent", "picture"].into_iter().zip(draw(threads).iter().zip(&alone)) {
            assert_eq!(bits(a), bits(b), "{what} with {threads} threads");
        }
    }
}
