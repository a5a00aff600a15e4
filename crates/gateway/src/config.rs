//! What the gateway can be told, from arguments and the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tonic::transport::Uri;

/// The HTTP front of Comfy Services: the UI, the `/v1` API and ComfyUI's own API.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "gateway", version, about)]
pub struct Config {
    /// Where programs connect. Everything is served here and on `UI_ADDR`.
    #[arg(long, env = "GATEWAY_ADDR", default_value = "127.0.0.1:8084")]
    pub gateway_addr: SocketAddr,

    /// Where people open the page. Everything is served here and on `GATEWAY_ADDR`.
    #[arg(long, env = "UI_ADDR", default_value = "127.0.0.1:8080")]
    pub ui_addr: SocketAddr,

    /// The orchestrator's gRPC address.
    #[arg(long, env = "ORCHESTRATOR_ADDR", default_value = "http://127.0.0.1:9090", value_parser = parse_grpc_address)]
    pub orchestrator_addr: Uri,

    /// Which page is served at `/`.
    #[arg(long, env = "UI", default_value = "scaffold", value_enum)]
    pub ui: Ui,

    /// Our own page, built.
    #[arg(long, env = "UI_DIR", default_value = "./ui/dist")]
    pub ui_dir: PathBuf,

    /// ComfyUI's page, as `scripts/sync_comfyui_frontend.sh` installs it.
    #[arg(long, env = "COMFYUI_FRONTEND_DIR", default_value = "./data/comfyui-frontend")]
    pub comfyui_frontend_dir: PathBuf,

    /// Pictures that workflows load; shared with the image stage.
    #[arg(long, env = "INPUT_DIR", default_value = "./data/input")]
    pub input_dir: PathBuf,

    /// Pictures that workflows save; shared with the image stage.
    #[arg(long, env = "OUTPUT_DIR", default_value = "./data/output")]
    pub output_dir: PathBuf,

    /// Previews and other short-lived pictures; shared with the image stage.
    #[arg(long, env = "TEMP_DIR", default_value = "./data/temp")]
    pub temp_dir: PathBuf,

    /// Settings and saved workflows of the page.
    #[arg(long, env = "USER_DIR", default_value = "./data/user")]
    pub user_dir: PathBuf,

    /// Keeps settings and files apart for each person that the header `comfy-user` names. Nobody proves who they are:
    /// only for people who trust each other, or behind a proxy that sets the header.
    #[arg(long, env = "MULTI_USER", default_value = "false", action = clap::ArgAction::Set)]
    pub multi_user: bool,

    /// The largest upload: bytes, or a number with a unit such as `MiB`.
    #[arg(long, env = "MAX_UPLOAD_BYTES", default_value = "100MiB", value_parser = parse_size)]
    pub max_upload_bytes: usize,

    /// The largest workflow or other JSON body: bytes, or a number with a unit such as `MiB`.
    #[arg(long, env = "MAX_WORKFLOW_BYTES", default_value = "16MiB", value_parser = parse_size)]
    pub max_workflow_bytes: usize,

    /// Where log files go.
    #[arg(long, env = "LOG_DIR", default_value = ".log")]
    pub log_dir: PathBuf,
}

/// The pages that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ui {
    /// Our own page, from `UI_DIR`.
    Scaffold,
    /// ComfyUI's page, from `COMFYUI_FRONTEND_DIR`.
    Comfyui,
}

impl Config {
    /// The folder of the page that was chosen.
    pub fn page_dir(&self) -> &Path {
        match self.ui {
            Ui::Scaffold => &self.ui_dir,
            Ui::Comfyui => &self.comfyui_frontend_dir,
        }
    }
}

fn parse_grpc_address(text: &str) -> Result<Uri, String> {
    let endpoint = comfy_service::config::endpoint(text)?;
    endpoint.parse().map_err(|error| format!("`{text}` is not an address: {error}"))
}

fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = comfy_service::config::bytes(text)?;
    usize::try_from(bytes).map_err(|_| format!("`{text}` is more than this machine can address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn defaults_are_those_of_the_readme() {
        let config = Config::try_parse_from(["gateway"]).unwrap();
        assert_eq!(config.gateway_addr.to_string(), "127.0.0.1:8084");
        assert_eq!(config.ui_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(config.max_upload_bytes, 104_857_600);
    }

    #[test]
    fn the_page_is_chosen_by_name() {
        let read = |ui: &str| Config::try_parse_from(["gateway", "--ui", ui, "--ui-dir", "own"]);
        assert_eq!(read("scaffold").unwrap().page_dir(), Path::new("own"));
        assert_eq!(read("comfyui").unwrap().page_dir(), Path::new("./data/comfyui-frontend"));
        let error = read("comfy").unwrap_err().to_string();
        assert!(error.contains("scaffold, comfyui"), "{error}");
    }

    #[test]
    fn grpc_addresses_are_checked() {
        assert_eq!(parse_grpc_address("orchestrator:9090").unwrap().to_string(), "http://orchestrator:9090/");
        for bad in ["", "ftp://x:1", "http://", "a b"] {
            assert!(parse_grpc_address(bad).is_err(), "{bad}");
        }
    }
}
