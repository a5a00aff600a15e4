//! Everything about the image stage that can be set from outside.

use std::net::SocketAddr;
use std::path::PathBuf;

use comfy_imaging::Limits;

/// Image nodes of Comfy Services.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "stage-image", version)]
pub struct Config {
    /// Address to listen on. Written as `host:port` or, as its clients write it, `http://host:port`.
    #[arg(long = "listen", env = "STAGE_IMAGE_ADDR", default_value = "127.0.0.1:9092", value_parser = comfy_service::config::listen_address)]
    pub listen: SocketAddr,

    /// Root of the artifact volume that every stage shares.
    #[arg(long, env = "ARTIFACTS_ROOT", default_value = "./data/artifacts")]
    pub artifacts_root: PathBuf,

    /// Folder of pictures that workflows load.
    #[arg(long, env = "INPUT_DIR", default_value = "./data/input")]
    pub input_dir: PathBuf,

    /// Folder of saved pictures.
    #[arg(long, env = "OUTPUT_DIR", default_value = "./data/output")]
    pub output_dir: PathBuf,

    /// Folder of pictures that are only shown.
    #[arg(long, env = "TEMP_DIR", default_value = "./data/temp")]
    pub temp_dir: PathBuf,

    #[arg(long, env = "LOG_DIR", default_value = ".log")]
    pub log_dir: PathBuf,

    /// How many groups of nodes run at the same time.
    #[arg(long, env = "STAGE_IMAGE_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,

    /// Longest side of a picture that is loaded, in pixels.
    #[arg(long, env = "MAX_IMAGE_SIDE_PX", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub max_image_side_px: u32,

    /// Most pixels of a picture that is loaded, over all its frames.
    #[arg(long, env = "MAX_IMAGE_PIXELS", default_value_t = 64_000_000, value_parser = clap::value_parser!(u64).range(1..=64_000_000))]
    pub max_image_pixels: u64,
}

impl Config {
    /// Returns the limits for pictures that are loaded.
    pub fn limits(&self) -> Limits {
        Limits { max_side_px: self.max_image_side_px, max_pixels: self.max_image_pixels, ..Limits::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn bad_values_are_refused_by_name() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--workers", "0"),
            ("--max-image-side-px", "16385"),
            ("--max-image-pixels", "many"),
        ] {
            let error = Config::try_parse_from(["stage-image", flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
        assert_eq!(comfy_service::config::listen_address("http://127.0.0.1:1234/").unwrap().port(), 1234);
    }
}
