//! Compares the parts of a checkpoint with the figures of a fixture.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::sampling::ModelInputs;
use comfy_diffusion::text::{ClipSkip, TextEncoding};

use crate::compare::assert_close;
use crate::models::Parts;

pub struct Reference(HashMap<String, Tensor>);

impl Reference {
    pub fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.0[name]
    }

    pub fn check_text(&self, parts: &Parts) {
        let encode = |prompt: &str, skip| parts.clip.encode(prompt, skip).unwrap();
        for (name, prompt) in [("p0", "a photo of a cat"), ("p1", "(masterpiece:1.3), [blurry] dog")] {
            let encoding = encode(prompt, ClipSkip::LAST);
            assert_close(name, &encoding.embedding, self.get(&format!("clip_{name}")), 1e-5);
            self.check_pooled(name, &encoding);
        }
        for (name, prompt) in [("p_empty", String::new()), ("p_long", ["cat"; 80].join(" "))] {
            let encoding = encode(&prompt, ClipSkip::LAST);
            self.check_stats(&format!("stats_clip_{name}"), &encoding);
            self.check_pooled(name, &encoding);
        }
        self.check_stats("stats_clip_skip_2_p0", &encode("a photo of a cat", ClipSkip::new(-2).unwrap()));
    }

    fn check_pooled(&self, name: &str, encoding: &TextEncoding) {
        assert_close(
            &format!("pooled {name}"),
            &encoding.pooled,
            self.get(&format!("clip_pooled_{name}")),
            1e-5,
        );
    }

    fn check_stats(&self, name: &str, encoding: &TextEncoding) {
        let expected = self.get(name);
        let values = encoding.embedding.flatten_all().unwrap();
        let first = values.narrow(0, 0, 32).unwrap();
        assert_close(name, &first, &expected.narrow(0, 4, 32).unwrap(), 1e-5);
        let values = values.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let largest = values.iter().map(|value| value.abs()).fold(0.0, f64::max);
        let expected = expected.narrow(0, 0, 4).unwrap().to_vec1::<f32>().unwrap();
        assert!((norm / f64::from(expected[1]) - 1.0).abs() < 1e-5, "{name}: norm {norm}");
        assert!((largest / f64::from(expected[2]) - 1.0).abs() < 1e-5, "{name}: largest {largest}");
    }

    pub fn check_unet(&self, parts: &Parts) {
        for timestep in [999u32, 500, 1] {
            let steps = Tensor::new(&[timestep as f32], &Device::Cpu).unwrap();
            let started = std::time::Instant::now();
            let eps = parts
                .model
                .forward(self.get("unet_x"), &steps, &ModelInputs::text(self.get("clip_p0").clone()))
                .unwrap();
            println!("unet forward {:?}", started.elapsed());
            let name = format!("unet_eps_t{timestep}");
            assert_close(&name, &eps, self.get(&name), 2e-5);
        }
    }

    pub fn check_vae(&self, parts: &Parts) {
        let image = parts.vae.decode(self.get("vae_decode_in")).unwrap();
        let image = ((image + 1.0).unwrap() / 2.0).unwrap().clamp(0f32, 1f32).unwrap();
        let image = image.permute((0, 2, 3, 1)).unwrap();
        assert_close("vae decode", &image, self.get("vae_decode_out"), 2e-5);
        let image = self.get("vae_encode_in").permute((0, 3, 1, 2)).unwrap();
        let image = ((image * 2.0).unwrap() - 1.0).unwrap();
        let latent = parts.vae.encode(&image).unwrap();
        assert_close("vae encode", &latent, self.get("vae_encode_out"), 2e-5);
    }
}
