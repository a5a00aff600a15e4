//! What the gateway can be told, from arguments and the environment.

use crate::access::{self, ApiKey};
use axum::http::uri::Authority;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
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

    /// API keys as `NAME:SCOPE:SHA256`, joined by commas. Scopes: `read`, `run`, `admin`, each with those before it. With
    /// keys every request needs one.
    // Read by `keys` only: the parser of arguments would repeat a wrong value, which may be a secret.
    #[arg(long, env = "API_KEYS", default_value = "", hide_env_values = true)]
    pub api_keys: String,

    /// A file with more keys, one a line.
    #[arg(long, env = "API_KEYS_FILE")]
    pub api_keys_file: Option<PathBuf>,

    /// Lets an address be listened on that others can reach without API keys: something in front, such as a container's
    /// network or a proxy with a login, decides who gets there.
    #[arg(long, env = "ALLOW_OPEN_ACCESS", default_value = "false", action = clap::ArgAction::Set)]
    pub allow_open_access: bool,

    /// Names under which the server is asked, joined by commas, besides `localhost` and plain addresses; `*`: any. Others
    /// are refused, because any site can give this machine a name of its own.
    #[arg(long, env = "ALLOWED_HOSTS", default_value = "", value_parser = parse_hosts)]
    pub allowed_hosts: Names,

    /// Origins of pages that may ask, joined by commas, besides the server's own: for a proxy that changes `Host`.
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "", value_parser = parse_origins)]
    pub allowed_origins: Names,

    /// Requests in a second of one key, or of one address without keys; ten times as many at once. 0: any number.
    #[arg(long, env = "RATE_LIMIT", default_value = "200")]
    pub rate_limit: u32,

    /// How long the head of a request may take.
    #[arg(long, env = "REQUEST_HEADER_TIMEOUT", default_value = "15s", value_parser = comfy_service::config::duration)]
    pub request_header_timeout: Duration,

    /// How long a body may say nothing before it is given up.
    #[arg(long, env = "REQUEST_BODY_TIMEOUT", default_value = "30s", value_parser = comfy_service::config::duration)]
    pub request_body_timeout: Duration,

    /// Connections of an address that are open at a time.
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "1024")]
    pub max_connections: NonZeroUsize,

    /// Where figures for Prometheus are served, with `/healthz` and `/readyz`; nowhere if left out.
    #[arg(long, env = "ADMIN_ADDR")]
    pub admin_addr: Option<SocketAddr>,

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
    /// Checks what is wrong in combination, before anything is bound.
    ///
    /// # Errors
    /// When the keys cannot be read, or when a listening address can be reached by anybody.
    pub fn check(&self) -> Result<(), String> {
        let has_keys = !self.keys()?.is_empty();
        for address in [self.gateway_addr, self.ui_addr] {
            self.may_listen(address, has_keys)?;
        }
        // Nobody is asked for a key there.
        self.admin_addr.map_or(Ok(()), |address| self.may_listen(address, false))
    }

    /// See [`access::may_listen`].
    pub fn may_listen(&self, address: SocketAddr, has_keys: bool) -> Result<(), String> {
        access::may_listen(address, has_keys, self.allow_open_access)
    }

    /// Every key, of the variable and of the file.
    ///
    /// # Errors
    /// When the file cannot be read, or when two keys have the same name.
    pub fn keys(&self) -> Result<Vec<ApiKey>, String> {
        let read = |text: &str| text.parse().map_err(|error| format!("`API_KEYS`: {error}"));
        let mut keys: Vec<ApiKey> = list(&self.api_keys).map(read).collect::<Result<_, String>>()?;
        if let Some(file) = &self.api_keys_file {
            keys.extend(access::read_file(file)?);
        }
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.name == key.name) {
                return Err(format!("there are two API keys named `{}`", key.name));
            }
        }
        Ok(keys)
    }

    /// The folder of the page that was chosen.
    pub fn page_dir(&self) -> &Path {
        match self.ui {
            Ui::Scaffold => &self.ui_dir,
            Ui::Comfyui => &self.comfyui_frontend_dir,
        }
    }
}

/// Names of a variable, in lower case.
#[derive(Debug, Clone)]
pub struct Names(pub Vec<String>);

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn parse_hosts(text: &str) -> Result<Names, String> {
    let read = |name: &str| match name.parse::<Authority>() {
        Ok(authority) if authority.host() == name => Ok(name.to_ascii_lowercase()),
        _ if name == "*" => Ok(name.to_owned()),
        _ => Err(format!("`{name}` is not the name of a host, such as `comfy.example`, or `*`")),
    };
    list(text).map(read).collect::<Result<_, _>>().map(Names)
}

fn parse_origins(text: &str) -> Result<Names, String> {
    let read = |origin: &str| {
        let plain = origin.to_ascii_lowercase();
        let rest = plain.strip_prefix("https://").or_else(|| plain.strip_prefix("http://"));
        match rest.map(str::parse::<Authority>) {
            Some(Ok(authority)) if !authority.as_str().contains('@') => Ok(plain),
            _ => Err(format!("`{origin}` is not an origin such as `https://comfy.example`")),
        }
    };
    list(text).map(read).collect::<Result<_, _>>().map(Names)
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
    fn wrong_values_are_explained() {
        for (option, value, words) in [
            ("--gateway-addr", "localhost", "invalid socket address"),
            ("--ui-addr", "127.0.0.1:99999", "invalid socket address"),
            ("--admin-addr", "8085", "invalid socket address"),
            ("--orchestrator-addr", "ftp://x", "is not a service address"),
            ("--ui", "comfy", "scaffold, comfyui"),
            ("--multi-user", "yes", "true, false"),
            ("--max-upload-bytes", "10 apples", "is not a size"),
            ("--max-workflow-bytes", "plenty", "is not a size"),
            ("--allow-open-access", "maybe", "true, false"),
            ("--allowed-hosts", "http://comfy.example", "is not the name of a host"),
            ("--allowed-hosts", "comfy.example:80", "is not the name of a host"),
            ("--allowed-hosts", "a b", "is not the name of a host"),
            ("--allowed-origins", "comfy.example", "is not an origin"),
            ("--allowed-origins", "https://comfy.example/page", "is not an origin"),
            ("--allowed-origins", "null", "is not an origin"),
            ("--rate-limit", "many", "invalid digit"),
            ("--request-header-timeout", "0", "is not a positive duration"),
            ("--request-body-timeout", "soon", "is not a positive duration"),
            ("--max-connections", "0", "zero"),
        ] {
            let error = Config::try_parse_from(["gateway", option, value]).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(option), "{option} {value}: {error}");
        }
    }

    #[test]
    fn open_addresses_are_refused_before_anything_is_bound() {
        let check =
            |arguments: &[&str]| Config::try_parse_from([&["gateway"], arguments].concat()).unwrap().check();
        let key = format!("a:read:{}", "0".repeat(64));
        assert_eq!(check(&[]), Ok(()));
        for option in ["--gateway-addr", "--ui-addr", "--admin-addr"] {
            let error = check(&[option, "0.0.0.0:1"]).unwrap_err();
            assert!(error.contains("`0.0.0.0:1`"), "{error}");
            assert_eq!(check(&[option, "0.0.0.0:1", "--allow-open-access", "true"]), Ok(()));
        }
        assert_eq!(check(&["--gateway-addr", "0.0.0.0:1", "--api-keys", &key]), Ok(()));
        assert!(check(&["--admin-addr", "0.0.0.0:1", "--api-keys", &key]).is_err());
        let error = check(&["--api-keys", &format!("{key},{key}")]).unwrap_err();
        assert!(error.contains("two API keys named `a`"), "{error}");
        let error = check(&["--api-keys", "secret"]).unwrap_err();
        assert!(error.contains("`API_KEYS`: a key is written") && !error.contains("secret"), "{error}");
        assert!(check(&["--api-keys-file", "/nowhere/keys"]).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn grpc_addresses_are_checked() {
        assert_eq!(parse_grpc_address("orchestrator:9090").unwrap().to_string(), "http://orchestrator:9090/");
        for bad in ["", "ftp://x:1", "http://", "a b"] {
            assert!(parse_grpc_address(bad).is_err(), "{bad}");
        }
    }
}
