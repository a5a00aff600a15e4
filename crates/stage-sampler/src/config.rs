//! Configuration from flags and environment variables. Everything is parsed before anything is bound.

use crate::model_folders::ModelFolders;
use clap::{Parser, ValueEnum};
use comfy_service::config::{bytes, duration, listen_address};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The stage-sampler service: runs Stable Diffusion.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "STAGE_SAMPLER_ADDR", default_value = "127.0.0.1:9091", value_parser = listen_address)]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub models: ModelFolders,
    /// The checkpoint that is offered first; the others follow by name, as they do when it is not there.
    #[arg(long, env = "DEFAULT_CHECKPOINT", default_value = "starter.safetensors")]
    pub default_checkpoint: String,
    /// The only kind of model to accept.
    #[arg(long, env = "PIPELINE_KIND", default_value = "auto")]
    pub pipeline_kind: PipelineKind,
    /// Where to compute.
    #[arg(long, env = "TORCH_DEVICE", default_value = "cpu")]
    pub device: DeviceKind,
    /// Number format of the diffusion model. Text encoder and autoencoder stay in float32 on a CPU.
    #[arg(long, env = "TORCH_DTYPE", default_value = "float32")]
    pub dtype: DTypeKind,
    /// Largest checkpoint to offer.
    #[arg(long, env = "MAX_CHECKPOINT_BYTES", default_value = "64GiB", value_parser = bytes)]
    pub max_checkpoint_bytes: u64,
    /// Smallest checkpoint to offer.
    #[arg(long, env = "MIN_CHECKPOINT_BYTES", default_value = "0", value_parser = bytes)]
    pub min_checkpoint_bytes: u64,
    /// Offer only checkpoints whose name contains one of these words (comma separated, any case).
    #[arg(long, env = "CHECKPOINT_ALLOWLIST", default_value = "")]
    pub checkpoint_allowlist: WordList,
    /// Never offer checkpoints whose name contains one of these words.
    #[arg(long, env = "CHECKPOINT_BLACKLIST", default_value = "")]
    pub checkpoint_blacklist: WordList,
    /// Memory for loaded models; the least recently used go first.
    #[arg(long, env = "MODEL_CACHE_BYTES", default_value = "12GiB", value_parser = bytes)]
    pub model_cache_bytes: u64,
    /// Longest that converting a PyTorch file (.ckpt, .pt, .pth, .bin) may take.
    #[arg(long, env = "PICKLE_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub pickle_timeout: Duration,
    /// The artifact volume. Converted PyTorch files are kept there too.
    #[arg(long, env = "ARTIFACTS_ROOT", default_value = "data/artifacts")]
    pub artifacts_root: PathBuf,
    /// Folder of saved models.
    #[arg(long, env = "OUTPUT_DIR", default_value = "./data/output")]
    pub output_dir: PathBuf,
    /// Folder for log files.
    #[arg(long, env = "LOG_DIR", default_value = ".log")]
    pub log_dir: PathBuf,
}

/// Which models a deployment accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PipelineKind {
    /// Whatever the file turns out to be.
    Auto,
    /// Stable Diffusion XL only.
    Sdxl,
    /// Stable Diffusion 1.x only.
    Sd15,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    Cpu,
    Cuda,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
        })
    }
}

/// Number format of the diffusion model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DTypeKind {
    Float32,
    Float16,
    Bfloat16,
}

impl DTypeKind {
    pub fn dtype(self) -> candle_core::DType {
        match self {
            DTypeKind::Float32 => candle_core::DType::F32,
            DTypeKind::Float16 => candle_core::DType::F16,
            DTypeKind::Bfloat16 => candle_core::DType::BF16,
        }
    }
}

/// Words to look for in names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordList(Vec<String>);

impl std::str::FromStr for WordList {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(|w| w.trim().to_lowercase()).filter(|w| !w.is_empty()).collect()))
    }
}

impl WordList {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name contains one of the words.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.0.iter().any(|word| name.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists() {
        let list: WordList = "sdxl, Turbo,,".parse().unwrap();
        assert!(list.matches("x/SD-turbo.safetensors") && list.matches("SDXL_base"));
        assert!(!list.matches("sd15"));
        assert!(WordList::default().is_empty() && !list.is_empty());
    }

    #[test]
    fn bad_values_name_the_choices() {
        let error = Config::try_parse_from(["x", "--device", "tpu"]).unwrap_err().to_string();
        assert!(error.contains("cpu") && error.contains("cuda"), "{error}");
        assert!(Config::try_parse_from(["x", "--max-checkpoint-bytes", "lots"]).is_err());
    }
}
