//! A catalog of nodes as ComfyUI describes them, and shorthands to build graphs from JSON.

use comfy_graph::validate::validate;
use comfy_graph::{Catalog, ComboOption, InputSpec, NodeSpec, OutputSpec, ValidGraph, Widget, workflow};
use serde_json::Value;

pub const SAMPLERS: [&str; 42] = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
];

pub const SCHEDULERS: [&str; 9] = [
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
];

fn node(
    class: &str,
    display_name: &str,
    category: &str,
    inputs: Vec<InputSpec>,
    outputs: &[&str],
) -> NodeSpec {
    NodeSpec {
        class: class.into(),
        display_name: display_name.into(),
        category: category.into(),
        version: 1,
        inputs,
        outputs: outputs.iter().map(|socket| OutputSpec::of(socket)).collect(),
        ..NodeSpec::default()
    }
}

fn output_node(mut spec: NodeSpec) -> NodeSpec {
    spec.inputs.push(InputSpec::hidden("prompt", "PROMPT"));
    spec.inputs.push(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"));
    NodeSpec { output_node: true, ..spec }
}

/// A file combo with options, each with a fingerprint.
pub fn file(name: &str, folder: &str, files: &[&str]) -> InputSpec {
    let mut input = InputSpec::file(name, folder);
    if let Some(Widget::Combo { options, .. }) = &mut input.widget {
        *options = files
            .iter()
            .map(|file| ComboOption { value: (*file).into(), fingerprint: Some(format!("hash of {file}")) })
            .collect();
    }
    input
}

fn upload(mut input: InputSpec) -> InputSpec {
    if let Some(Widget::Combo { upload, .. }) = &mut input.widget {
        *upload = Some("image".into());
    }
    input
}

fn color(name: &str) -> InputSpec {
    let mut input = InputSpec::int(name, 0, (0, 0xff_ffff), 1);
    if let Some(Widget::Int { display, .. }) = &mut input.widget {
        *display = Some("color".into());
    }
    input
}

fn size(name: &str, (min, step): (i128, i128)) -> InputSpec {
    InputSpec::int(name, 512, (min, 16384), step)
}

fn batch_size() -> InputSpec {
    InputSpec::int("batch_size", 1, (1, 4096), 1)
}

pub fn specs() -> Vec<NodeSpec> {
    let socket = InputSpec::socket;
    let image = || upload(file("image", "input", &["example.png"]));
    vec![
        node(
            "KSampler",
            "KSampler",
            "sampling",
            vec![
                socket("model", "MODEL"),
                InputSpec::seed("seed"),
                InputSpec::int("steps", 20, (1, 10000), 1),
                InputSpec::float("cfg", 8.0, (0.0, 100.0), 0.1, Some(0.01)),
                InputSpec::combo("sampler_name", &SAMPLERS),
                InputSpec::combo("scheduler", &SCHEDULERS),
                socket("positive", "CONDITIONING"),
                socket("negative", "CONDITIONING"),
                socket("latent_image", "LATENT"),
                InputSpec::float("denoise", 1.0, (0.0, 1.0), 0.01, None),
            ],
            &["LATENT"],
        ),
        node(
            "CheckpointLoaderSimple",
            "Load Checkpoint",
            "loaders",
            vec![file(
                "ckpt_name",
                "checkpoints",
                &["sd15_random.safetensors", "tiny_sd1_random.safetensors"],
            )],
            &["MODEL", "CLIP", "VAE"],
        ),
        node(
            "CLIPTextEncode",
            "CLIP Text Encode (Prompt)",
            "conditioning",
            vec![InputSpec::prompt("text"), socket("clip", "CLIP")],
            &["CONDITIONING"],
        ),
        node(
            "EmptyLatentImage",
            "Empty Latent Image",
            "latent",
            vec![size("width", (16, 8)), size("height", (16, 8)), batch_size()],
            &["LATENT"],
        ),
        node(
            "VAEDecode",
            "VAE Decode",
            "latent",
            vec![socket("samples", "LATENT"), socket("vae", "VAE")],
            &["IMAGE"],
        ),
        output_node(node(
            "SaveImage",
            "Save Image",
            "image",
            vec![socket("images", "IMAGE"), InputSpec::text("filename_prefix", "ComfyUI")],
            &[],
        )),
        output_node(node("PreviewImage", "Preview Image", "image", vec![socket("images", "IMAGE")], &[])),
        node("LoadImage", "Load Image", "image", vec![image()], &["IMAGE", "MASK"]),
        node(
            "LoadImageMask",
            "Load Image (as Mask)",
            "mask",
            vec![image(), InputSpec::combo("channel", &["alpha", "red", "green", "blue"])],
            &["MASK"],
        ),
        node(
            "EmptyImage",
            "EmptyImage",
            "image",
            vec![size("width", (1, 1)), size("height", (1, 1)), batch_size(), color("color")],
            &["IMAGE"],
        ),
        node(
            "ImageBatch",
            "Batch Images",
            "image",
            vec![socket("image1", "IMAGE"), socket("image2", "IMAGE")],
            &["IMAGE"],
        ),
        node("ImageInvert", "Invert Image", "image", vec![socket("image", "IMAGE")], &["IMAGE"]),
        node(
            "LatentUpscaleBy",
            "Upscale Latent By",
            "latent",
            vec![
                socket("samples", "LATENT"),
                InputSpec::combo(
                    "upscale_method",
                    &["nearest-exact", "bilinear", "area", "bicubic", "bislerp"],
                ),
                InputSpec::float("scale_by", 1.5, (0.01, 8.0), 0.01, None),
            ],
            &["LATENT"],
        ),
        node(
            "ImageScale",
            "Upscale Image",
            "image/upscaling",
            vec![
                socket("image", "IMAGE"),
                InputSpec::combo(
                    "upscale_method",
                    &["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],
                ),
                size("width", (0, 1)),
                size("height", (0, 1)),
                InputSpec::combo("crop", &["disabled", "center"]),
            ],
            &["IMAGE"],
        ),
        node(
            "ImageStitch",
            "Image Stitch",
            "image/transform",
            vec![
                socket("image1", "IMAGE"),
                InputSpec::combo("direction", &["right", "down", "left", "up"]).choose("right"),
                InputSpec::boolean("match_image_size", true),
                InputSpec::int("spacing_width", 0, (0, 1024), 2),
                InputSpec::combo("spacing_color", &["white", "black", "red", "green", "blue"])
                    .choose("white"),
                socket("image2", "IMAGE").optional(),
            ],
            &["IMAGE"],
        ),
    ]
}

pub fn catalog_of(specs: Vec<NodeSpec>) -> Catalog {
    let mut catalog = Catalog::default();
    let clashes = catalog.add_stage("sampler", "cpu f32", specs);
    assert!(clashes.is_empty(), "{clashes:?}");
    catalog
}

pub fn catalog() -> Catalog {
    catalog_of(specs())
}

/// Reads and validates an API graph that must be sound.
#[track_caller]
pub fn valid(catalog: &Catalog, json: &Value) -> ValidGraph {
    let validation = validate(&workflow::read(json, catalog).unwrap(), catalog, &[]);
    assert!(validation.node_errors.is_empty(), "{:#?}", validation.node_errors);
    validation.graph.unwrap_or_else(|| panic!("{:#?}", validation.error))
}

/// The default workflow in the API format.
pub fn text_to_image() -> Value {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/default_workflow.json")).unwrap();
    fixture["api"].clone()
}
