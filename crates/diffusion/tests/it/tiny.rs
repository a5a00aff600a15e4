//! The tiny random checkpoint: numbers, detection, and batches.

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::{CheckpointHeader, detect};
use comfy_diffusion::families::Family;
use comfy_diffusion::sampling::ModelInputs;
use comfy_diffusion::text::ClipSkip;
use comfy_diffusion::{Error, load_clip, load_model, load_vae};

use crate::compare::assert_close;
use crate::models::{TINY, Tiny, wave};
use crate::reference::Reference;

fn text(context: &Tensor) -> ModelInputs {
    ModelInputs::text(context.clone())
}

#[test]
fn text_agrees() {
    Reference::load("tiny.safetensors").check_text(&TINY);
}

#[test]
fn unet_agrees() {
    Reference::load("tiny.safetensors").check_unet(&TINY);
}

#[test]
fn vae_agrees() {
    Reference::load("tiny.safetensors").check_vae(&TINY);
}

#[test]
fn layout_is_read_from_shapes() {
    let tiny = Tiny::new();
    let detection = detect(&CheckpointHeader::read(&tiny.path).unwrap());
    assert_eq!(detection.family, Family::Sd1);
    let unet = detection.unet.unwrap();
    assert_eq!((unet.model_channels, unet.context_dim, unet.in_channels, unet.out_channels), (32, 64, 4, 4));
    assert_eq!((unet.input_blocks.len(), unet.output_blocks.len(), unet.middle.len()), (12, 12, 2));
    let vae = detection.vae.unwrap();
    assert_eq!(vae.decoder_widths, [32, 64, 128, 128]);
    assert_eq!((vae.downscale(), vae.latent_channels, vae.decoder_blocks, vae.encoder_blocks), (8, 4, 3, 2));
    let clip = detection.clip.unwrap().remove(0);
    assert_eq!((clip.width, clip.layers, clip.heads), (64, 2, 4));
}

#[test]
fn weights_are_counted() {
    let total = TINY.model.weight_bytes() + TINY.vae.weight_bytes() + TINY.clip.weight_bytes();
    // What the file has in f16 stays so; panels are filled up with zeros, and what is no matrix is kept in f32.
    assert!((1.0..1.25).contains(&(total as f64 / 34_385_518.0)), "{total}");
}

#[test]
fn batched_equals_singles() {
    let steps = Tensor::new(&[900f32, 20.0], &Device::Cpu).unwrap();
    let (x, context) = (wave(&[2, 4, 8, 16], 0.1), wave(&[2, 77, 64], 0.9));
    let (latent, image) = (wave(&[2, 4, 4, 8], 0.3), wave(&[2, 3, 32, 16], 0.5));
    let eps = TINY.model.forward(&x, &steps, &text(&context)).unwrap();
    let decoded = TINY.vae.decode(&latent).unwrap();
    let encoded = TINY.vae.encode(&image).unwrap();
    for i in 0..2 {
        let one = |t: &Tensor| t.narrow(0, i, 1).unwrap();
        let single = TINY.model.forward(&one(&x), &one(&steps), &text(&one(&context))).unwrap();
        assert_close("unet", &one(&eps), &single, 1e-5);
        assert_close("vae decode", &one(&decoded), &TINY.vae.decode(&one(&latent)).unwrap(), 1e-5);
        assert_close("vae encode", &one(&encoded), &TINY.vae.encode(&one(&image)).unwrap(), 1e-5);
    }
    // Chunks of a long prompt run as a batch; the first chunk alone must give the same.
    let long = TINY.clip.encode(&["cat"; 80].join(" "), ClipSkip::LAST).unwrap();
    let first = TINY.clip.encode(&["cat"; 75].join(" "), ClipSkip::LAST).unwrap();
    assert_close("clip", &long.embedding.narrow(1, 0, 77).unwrap(), &first.embedding, 1e-5);
}

#[test]
fn odd_latent_sizes_are_accepted() {
    let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    let context = text(&wave(&[1, 77, 64], 0.0));
    let eps = TINY.model.forward(&wave(&[1, 4, 9, 13], 0.0), &steps, &context).unwrap();
    assert_eq!(eps.dims(), [1, 4, 9, 13]);
}

#[test]
fn wrong_shapes_are_errors() {
    let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    let (x, context) = (wave(&[1, 4, 8, 8], 0.0), wave(&[1, 77, 64], 0.0));
    let forward = |x: &Tensor, context: &Tensor| TINY.model.forward(x, &steps, &text(context));
    assert!(matches!(forward(&wave(&[1, 3, 8, 8], 0.0), &context), Err(Error::InvalidArgument(_))));
    assert!(matches!(forward(&wave(&[2, 4, 8, 8], 0.0), &context), Err(Error::InvalidArgument(_))));
    assert!(matches!(forward(&x, &wave(&[1, 77, 768], 0.0)), Err(Error::InvalidArgument(_))));
    assert!(matches!(TINY.vae.decode(&wave(&[1, 16, 8, 8], 0.0)), Err(Error::InvalidArgument(_))));
    assert!(matches!(TINY.vae.encode(&wave(&[1, 3, 60, 64], 0.0)), Err(Error::InvalidArgument(_))));
    assert!(matches!(ClipSkip::new(0), Err(Error::InvalidArgument(_))));
    assert!(matches!(ClipSkip::new(-25), Err(Error::InvalidArgument(_))));
}

#[test]
fn half_precision_stays_close() {
    let tiny = Tiny::new();
    let model = load_model(&tiny.path, &Device::Cpu, DType::F16, &[]).unwrap();
    // In f32, matrices that f16 holds exactly are kept in it, too.
    let (half, full) = (model.weight_bytes(), TINY.model.weight_bytes());
    assert!(half <= full && full < 2 * half, "{half} {full}");
    let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    let (x, context) = (wave(&[1, 4, 8, 8], 0.2), wave(&[1, 77, 64], 0.4));
    let half = model.forward(&x, &steps, &text(&context)).unwrap();
    let full = TINY.model.forward(&x, &steps, &text(&context)).unwrap();
    let distance = crate::compare::distance(&half, &full);
    assert!(distance.cosine > 0.9999, "{distance:?}");
    assert_eq!(half.dtype(), DType::F32);
}

#[test]
fn embeddings_are_reported() {
    let encoding = TINY.clip.encode("embedding:foo cat", ClipSkip::LAST).unwrap();
    assert_eq!(encoding.warnings.len(), 1);
    assert!(encoding.warnings[0].to_string().contains("`foo`"));
}

#[test]
fn missing_files_are_errors() {
    let path = std::path::Path::new("no/such/file.safetensors");
    assert!(matches!(load_model(path, &Device::Cpu, DType::F32, &[]), Err(Error::Io { .. })));
    assert!(matches!(load_clip(path, &Device::Cpu, DType::F32, &[]), Err(Error::Io { .. })));
    assert!(matches!(load_vae(path, &Device::Cpu, DType::F32), Err(Error::Io { .. })));
}

#[test]
fn parts_can_move_between_threads() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&TINY.model);
    check(&TINY.clip);
    check(&TINY.vae);
}
