//! Everything about the orchestrator that can be set from outside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Durable queue and planner of Comfy Services.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "orchestrator", version)]
pub struct Config {
    /// Address to listen on. Written as `host:port` or, as its clients write it, `http://host:port`.
    #[arg(long = "listen", env = "ORCHESTRATOR_ADDR", default_value = "127.0.0.1:9090", value_parser = comfy_service::config::listen_address)]
    pub listen: SocketAddr,

    /// Where the sampler stage answers.
    #[arg(long, env = "STAGE_SAMPLER_ADDR", default_value = "http://127.0.0.1:9091", value_parser = comfy_service::config::endpoint)]
    pub stage_sampler_addr: String,

    /// Where the image stage answers.
    #[arg(long, env = "STAGE_IMAGE_ADDR", default_value = "http://127.0.0.1:9092", value_parser = comfy_service::config::endpoint)]
    pub stage_image_addr: String,

    /// Folder of the database.
    #[arg(long, env = "DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Root of the artifact volume that every stage shares.
    #[arg(long, env = "ARTIFACTS_ROOT", default_value = "./data/artifacts")]
    pub artifacts_root: PathBuf,

    /// Folder of pictures that workflows load.
    #[arg(long, env = "INPUT_DIR", default_value = "./data/input")]
    pub input_dir: PathBuf,

    /// Folder of saved pictures; a cached save counts only while its files are there.
    #[arg(long, env = "OUTPUT_DIR", default_value = "./data/output")]
    pub output_dir: PathBuf,

    /// Folder of pictures that are only shown.
    #[arg(long, env = "TEMP_DIR", default_value = "./data/temp")]
    pub temp_dir: PathBuf,

    #[arg(long, env = "LOG_DIR", default_value = ".log")]
    pub log_dir: PathBuf,

    /// Longest time that one call of a stage may take.
    #[arg(long, env = "STAGE_TIMEOUT", default_value = "1h", value_parser = comfy_service::config::duration)]
    pub stage_timeout: Duration,

    /// How long a stage may stay unreachable before its job fails.
    #[arg(long, env = "STAGE_UNREACHABLE_LIMIT", default_value = "10m", value_parser = comfy_service::config::duration)]
    pub stage_unreachable_limit: Duration,

    /// How many jobs run at the same time.
    #[arg(long, env = "MAX_RUNNING_JOBS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub max_running_jobs: u16,

    /// How many ended jobs are remembered.
    #[arg(long, env = "HISTORY_LIMIT", default_value_t = 10_000)]
    pub history_limit: u32,
}

impl Config {
    /// The stages in the order in which they win when two offer the same class.
    pub fn stages(&self) -> [(&'static str, &str); 2] {
        [("stage-sampler", &self.stage_sampler_addr), ("stage-image", &self.stage_image_addr)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn addresses_are_read_in_both_spellings() {
        for text in ["127.0.0.1:9090", "http://127.0.0.1:9090"] {
            assert_eq!(comfy_service::config::listen_address(text).unwrap().port(), 9090, "{text}");
            assert_eq!(comfy_service::config::endpoint(text).unwrap(), "http://127.0.0.1:9090");
        }
        for text in ["", "9090", "ftp://127.0.0.1:1", "http://127.0.0.1"] {
            assert!(comfy_service::config::endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (flag, value) in
            [("--stage-timeout", "soon"), ("--max-running-jobs", "0"), ("--listen", "nowhere")]
        {
            let error = Config::try_parse_from(["orchestrator", flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
    }
}
