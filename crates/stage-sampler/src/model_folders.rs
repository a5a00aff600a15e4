//! Where model files are: a folder for every kind.

use clap::Args;
use std::path::PathBuf;

pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const VAES: &str = "vae";
/// Small autoencoders that stand in for the large ones, each half in a file.
pub(crate) const VAE_APPROX: &str = "vae_approx";
pub(crate) const DIFFUSION_MODELS: &str = "diffusion_models";
pub(crate) const TEXT_ENCODERS: &str = "text_encoders";
/// Networks that look at pictures.
pub(crate) const CLIP_VISION: &str = "clip_vision";
pub(crate) const STYLE_MODELS: &str = "style_models";
pub(crate) const LORAS: &str = "loras";
/// Textual inversion files.
pub(crate) const EMBEDDINGS: &str = "embeddings";
pub(crate) const HYPERNETWORKS: &str = "hypernetworks";
pub(crate) const CONTROLNETS: &str = "controlnet";
pub(crate) const GLIGEN: &str = "gligen";
pub(crate) const UPSCALERS: &str = "upscale_models";

/// The folders of a deployment: all in one, unless told otherwise.
#[derive(Debug, Clone, Args)]
pub struct ModelFolders {
    /// Folder with all models; each kind has a folder in it.
    #[arg(long, env = "MODELS_DIR", default_value = "models")]
    pub models_dir: PathBuf,
    /// Checkpoints, instead of `checkpoints` in MODELS_DIR. The others below likewise.
    #[arg(long, env = "CHECKPOINTS_DIR")]
    pub checkpoints_dir: Option<PathBuf>,
    /// Autoencoders on their own (`vae`).
    #[arg(long, env = "VAE_DIR")]
    pub vae_dir: Option<PathBuf>,
    /// Small autoencoders that stand in for the large ones (`vae_approx`).
    #[arg(long, env = "VAE_APPROX_DIR")]
    pub vae_approx_dir: Option<PathBuf>,
    /// Diffusion models on their own (`diffusion_models`).
    #[arg(long, env = "DIFFUSION_MODELS_DIR")]
    pub diffusion_models_dir: Option<PathBuf>,
    /// A second folder for the same, by the name it used to have (`unet`).
    #[arg(long, env = "UNET_DIR")]
    pub unet_dir: Option<PathBuf>,
    /// Text encoders on their own (`text_encoders`).
    #[arg(long, env = "TEXT_ENCODERS_DIR")]
    pub text_encoders_dir: Option<PathBuf>,
    /// A second folder for the same, by the name it used to have (`clip`).
    #[arg(long, env = "CLIP_DIR")]
    pub clip_dir: Option<PathBuf>,
    /// Networks that look at pictures (`clip_vision`).
    #[arg(long, env = "CLIP_VISION_DIR")]
    pub clip_vision_dir: Option<PathBuf>,
    /// Style adapters (`style_models`).
    #[arg(long, env = "STYLE_MODELS_DIR")]
    pub style_models_dir: Option<PathBuf>,
    /// LoRA files and their kin (`loras`).
    #[arg(long, env = "LORAS_DIR")]
    pub loras_dir: Option<PathBuf>,
    /// Textual inversion files (`embeddings`).
    #[arg(long, env = "EMBEDDINGS_DIR")]
    pub embeddings_dir: Option<PathBuf>,
    /// Hypernetworks (`hypernetworks`).
    #[arg(long, env = "HYPERNETWORKS_DIR")]
    pub hypernetworks_dir: Option<PathBuf>,
    /// ControlNets and T2I-adapters (`controlnet`).
    #[arg(long, env = "CONTROLNET_DIR")]
    pub controlnet_dir: Option<PathBuf>,
    /// A second folder for the same, where T2I-adapters used to be kept (`t2i_adapter`).
    #[arg(long, env = "T2I_ADAPTER_DIR")]
    pub t2i_adapter_dir: Option<PathBuf>,
    /// GLIGEN models (`gligen`).
    #[arg(long, env = "GLIGEN_DIR")]
    pub gligen_dir: Option<PathBuf>,
    /// Upscalers (`upscale_models`).
    #[arg(long, env = "UPSCALE_MODELS_DIR")]
    pub upscale_models_dir: Option<PathBuf>,
}

impl ModelFolders {
    /// Every kind of file, and where it is looked for; the first place wins.
    pub(crate) fn roots(&self) -> Vec<(&'static str, Vec<PathBuf>)> {
        let at =
            |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| self.models_dir.join(name));
        let one = |kind: &'static str, given: &Option<PathBuf>| (kind, vec![at(given, kind)]);
        let two = |kind: &'static str, given: &Option<PathBuf>, also: &Option<PathBuf>, name: &str| {
            (kind, vec![at(given, kind), at(also, name)])
        };
        vec![
            one(CHECKPOINTS, &self.checkpoints_dir),
            one(VAES, &self.vae_dir),
            one(VAE_APPROX, &self.vae_approx_dir),
            two(DIFFUSION_MODELS, &self.diffusion_models_dir, &self.unet_dir, "unet"),
            two(TEXT_ENCODERS, &self.text_encoders_dir, &self.clip_dir, "clip"),
            one(CLIP_VISION, &self.clip_vision_dir),
            one(STYLE_MODELS, &self.style_models_dir),
            one(LORAS, &self.loras_dir),
            one(EMBEDDINGS, &self.embeddings_dir),
            one(HYPERNETWORKS, &self.hypernetworks_dir),
            two(CONTROLNETS, &self.controlnet_dir, &self.t2i_adapter_dir, "t2i_adapter"),
            one(GLIGEN, &self.gligen_dir),
            one(UPSCALERS, &self.upscale_models_dir),
        ]
    }
}
