//! Image encoders, style adapters and small autoencoders against diffusers and transformers.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::{CheckpointHeader, detect};
use comfy_diffusion::families::{Extras, Family, SeenPictures, Side, Start};
use comfy_diffusion::vae::{LatentRange, Vae};
use comfy_diffusion::vision::{ClipVision, PictureCrop, StyleModel, preprocess};
use comfy_diffusion::{load_clip, load_model, load_vae};

use crate::compare::assert_close;
use crate::models::Folder;
use crate::models::Tiny;
use crate::random_checkpoint as layouts;
use crate::scattered::{self, fixture};

type Tensors = HashMap<String, Tensor>;

fn goldens() -> Tensors {
    candle_core::safetensors::load(fixture("vision.safetensors"), &Device::Cpu).unwrap()
}

fn weights(network: &str, gain: f64) -> Tensors {
    scattered::weights("vision.json", network, gain)
}

fn below(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

#[test]
fn a_small_autoencoder_agrees() {
    let (folder, goldens) = (Folder::new(), goldens());
    let encoder = folder.save("taesd_encoder.safetensors", &weights("taesd_encoder", 1.3));
    let decoder = folder.save("taesd_decoder.safetensors", &weights("taesd_decoder", 1.3));
    let range = LatentRange { scale: 0.18215, shift: 0.0 };
    let pair = Vae::load_tiny([&encoder, &decoder], &Device::Cpu, DType::F32, range).unwrap();
    let number = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    let mut joint = below("taesd_encoder.", weights("taesd_encoder", 1.3));
    joint.extend(below("taesd_decoder.", weights("taesd_decoder", 1.3)));
    joint.extend([("vae_scale".into(), number(0.18215)), ("vae_shift".into(), number(0.0))]);
    let joint = load_vae(&folder.save("joint.safetensors", &joint), &Device::Cpu, DType::F32).unwrap();
    for vae in [pair, joint] {
        assert_eq!((vae.downscale(), vae.latent_channels()), (8, 4));
        let encoded = vae.encode(&goldens["taesd.picture"]).unwrap();
        assert_close("taesd encoded", &encoded, &goldens["taesd.encoded"], 1e-5);
        let decoded = vae.decode(&goldens["taesd.latent"]).unwrap();
        assert_close("taesd decoded", &decoded, &goldens["taesd.decoded"], 1e-5);
        assert!(vae.encode_moments(&goldens["taesd.picture"]).is_err());
        assert!(vae.encode(&goldens["taesd.latent"]).is_err() && vae.decode(&goldens["image"]).is_err());
    }
    // A half is not the other half.
    let swapped = Vae::load_tiny([&decoder, &encoder], &Device::Cpu, DType::F32, range).unwrap_err();
    assert!(swapped.to_string().contains("TAESD"), "{swapped}");
}

#[test]
fn pictures_are_prepared_as_by_torch() {
    let goldens = goldens();
    for name in ["image", "small_image"] {
        for (crop, way) in [(PictureCrop::Center, "center"), (PictureCrop::None, "none")] {
            let found = preprocess(&goldens[name], 56, crop).unwrap();
            let expected = &goldens[&format!("preprocessed.{name}.{way}")];
            // Values are rounded to 8 bits; where one lies between two, the last digit decides.
            let difference = (&found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
            let differences: Vec<f32> = difference.to_vec1().unwrap();
            let far = differences.iter().filter(|d| **d > 1e-5).count();
            let worst = differences.iter().fold(0f32, |worst, d| worst.max(*d));
            println!("{name} {way}: {far} of {} a step apart, worst {worst:.4}", differences.len());
            assert!(far * 1000 <= differences.len() && worst < 0.016, "{far} {worst}");
        }
    }
    assert!(
        preprocess(&Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu).unwrap(), 8, PictureCrop::None)
            .is_err()
    );
}

/// A network of transformers as OpenCLIP names it.
fn open_clip(network: &Tensors) -> Tensors {
    let names = [
        ("vision_model.embeddings.class_embedding", "class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("vision_model.pre_layrnorm", "ln_pre"),
        ("vision_model.post_layernorm", "ln_post"),
        ("vision_model.encoder.layers", "transformer.resblocks"),
        ("layer_norm", "ln_"),
        ("self_attn.out_proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ];
    let mut renamed = Tensors::new();
    for (name, tensor) in network {
        if name.contains("k_proj") || name.contains("v_proj") {
            continue;
        }
        if name.contains("q_proj") {
            let part = |p: &str| &network[&name.replace("q_proj", p)];
            let joint = Tensor::cat(&[tensor, part("k_proj"), part("v_proj")], 0).unwrap();
            let name = name.replace("self_attn.q_proj.", "attn.in_proj_");
            renamed.insert(name.replace("vision_model.encoder.layers", "transformer.resblocks"), joint);
        } else if name == "visual_projection.weight" {
            renamed.insert("proj".into(), tensor.t().unwrap().contiguous().unwrap());
        } else {
            let name = names.iter().fold(name.clone(), |name, (theirs, ours)| name.replace(theirs, ours));
            renamed.insert(name, tensor.clone());
        }
    }
    renamed
}

#[test]
fn image_encoders_of_both_layouts_agree() {
    let (folder, goldens) = (Folder::new(), goldens());
    for (network, quick) in [("vision", true), ("deep_vision", false)] {
        let theirs = weights(network, 1.3);
        let open = open_clip(&theirs);
        for (layout, tensors) in [
            ("hugging face", theirs),
            ("open clip", below("visual.", open.clone())),
            ("in a checkpoint", below("embedder.model.visual.", open)),
        ] {
            let path = folder.save("vision.safetensors", &tensors);
            let vision = ClipVision::load(&path, &Device::Cpu, DType::F32).unwrap();
            assert_eq!((vision.config().picture_px, vision.config().quick_gelu), (56, quick));
            let found = vision.encode(&goldens["preprocessed.image.center"]).unwrap();
            for (what, found) in [
                ("last_hidden_state", found.last_hidden_state),
                ("penultimate_hidden_states", found.penultimate_hidden_states),
                ("image_embeds", found.image_embeds),
            ] {
                let expected = &goldens[&format!("{network}.{what}")];
                assert_close(&format!("{network}, {layout}: {what}"), &found, expected, 2e-5);
            }
            assert!(vision.encode(&goldens["image"]).is_err());
        }
    }
    let path = folder.save("taesd.safetensors", &weights("taesd_encoder", 1.3));
    let error = ClipVision::load(&path, &Device::Cpu, DType::F32).unwrap_err().to_string();
    assert!(error.contains("image encoder"), "{error}");
}

#[test]
fn a_style_adapter_agrees() {
    let (folder, goldens) = (Folder::new(), goldens());
    let path = folder.save("style.safetensors", &weights("style", 1.3));
    let style = StyleModel::load(&path, &Device::Cpu, DType::F32).unwrap();
    let found = style.tokens(&goldens["style.seen"]).unwrap();
    assert_close("style tokens", &found, &goldens["style.tokens"], 1e-5);
    assert!(style.tokens(&goldens["vision.last_hidden_state"]).is_err());
    let path = folder.save("vision.safetensors", &weights("vision", 1.3));
    let error = StyleModel::load(&path, &Device::Cpu, DType::F32).unwrap_err().to_string();
    assert!(error.contains("style_embedding"), "{error}");
}

/// Adds to a miniature of Stable Diffusion 2 what unCLIP has besides.
fn unclip_checkpoint(folder: &Folder, embed: usize) -> PathBuf {
    let base = Tiny::of(&layouts::TINY_SD2);
    let mut tensors = candle_core::safetensors::load(&base.path, &Device::Cpu).unwrap();
    let time = tensors["model.diffusion_model.time_embed.2.weight"].dim(0).unwrap();
    for (name, shape) in [
        ("0.0.weight", vec![time, 2 * embed]),
        ("0.0.bias", vec![time]),
        ("0.2.weight", vec![time, time]),
        ("0.2.bias", vec![time]),
    ] {
        let wave = crate::models::wave(&shape, 0.3).affine(0.05, 0.0).unwrap();
        tensors.insert(format!("model.diffusion_model.label_emb.{name}"), wave);
    }
    tensors.extend(below("embedder.model.visual.", open_clip(&weights("vision", 1.3))));
    folder.save("unclip.safetensors", &tensors)
}

#[test]
fn unclip_is_recognised_and_sees_pictures() {
    let (folder, goldens) = (Folder::new(), goldens());
    // The image encoder of the fixture gives 24 numbers.
    let path = unclip_checkpoint(&folder, 24);
    let detection = detect(&CheckpointHeader::read(&path).unwrap());
    assert_eq!((&detection.family, detection.family.refusal()), (&Family::Sd2Unclip, None));
    let model = load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap();
    load_clip(&path, &Device::Cpu, DType::F32, &[]).unwrap();
    let vision = ClipVision::load(&path, &Device::Cpu, DType::F32).unwrap();
    let embeds = vision.encode(&goldens["preprocessed.image.center"]).unwrap().image_embeds;
    let latent = Tensor::zeros((1, 4, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let vector = |pictures: Vec<SeenPictures>, seed: u64| {
        let extras = Extras { pictures, ..Extras::default() };
        let start = Start { latent: &latent, noise_mask: None, seed };
        model.extra_inputs(&extras, Side::Positive, &start).map(|inputs| inputs.vector.unwrap())
    };
    let seen = |embeds: &Tensor, noise_augmentation| {
        vec![SeenPictures { embeds: embeds.clone(), strength: 1.0, noise_augmentation }]
    };
    let one = embeds.narrow(0, 0, 1).unwrap();
    let nothing: Vec<f32> = vector(vec![], 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(nothing, vec![0.0; 48]);
    let values = |vector: Tensor| vector.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let [a, b, c] = [(0.3, 1), (0.3, 2), (0.3, 1)].map(|(n, s)| values(vector(seen(&one, n), s).unwrap()));
    assert!(a != b && a == c);
    // What a wider encoder saw does not fit.
    assert!(vector(seen(&goldens["unclip.embeds"], 0.0), 1).is_err());
}
