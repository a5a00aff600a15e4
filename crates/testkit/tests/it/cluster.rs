//! The four services as processes on free ports, with folders of their own.

use anyhow::{Context as _, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Gateway,
    Orchestrator,
    StageSampler,
    StageImage,
}

impl Service {
    pub const ALL: [Service; 4] =
        [Service::StageImage, Service::StageSampler, Service::Orchestrator, Service::Gateway];

    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Service::Gateway => "gateway",
            Service::Orchestrator => "orchestrator",
            Service::StageSampler => "stage-sampler",
            Service::StageImage => "stage-image",
        }
    }
}

/// A running stack. Dropping it kills the processes and removes the folders.
pub struct Cluster {
    dir: tempfile::TempDir,
    ports: [u16; 5],
    env: Vec<(String, String)>,
    children: Vec<(Service, Child)>,
}

impl Cluster {
    /// Writes the tiny random checkpoint, starts everything and waits until the stack is ready.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with_env(&[]).await
    }

    /// The same, with settings that every service is given.
    pub async fn start_with_env(env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_with(env, |checkpoints| {
            let path = checkpoints.join("tiny_sd1_random.safetensors");
            Ok(comfy_testkit::random_checkpoint::write_tiny(&path)?)
        })
        .await
    }

    /// Starts everything with the checkpoint that the project ships.
    pub async fn with_starter() -> anyhow::Result<Self> {
        Self::start_with(&[], |checkpoints| {
            let shipped =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/checkpoints/starter.safetensors");
            std::fs::copy(&shipped, checkpoints.join("starter.safetensors"))
                .with_context(|| shipped.display().to_string())?;
            Ok(())
        })
        .await
    }

    async fn start_with(
        env: &[(&str, &str)],
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let checkpoints = dir.path().join("checkpoints");
        std::fs::create_dir_all(&checkpoints)?;
        fill(&checkpoints)?;
        let mut cluster = Self {
            dir,
            ports: free_ports()?,
            env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            children: Vec::new(),
        };
        for service in Service::ALL {
            cluster.spawn(service)?;
        }
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Starts a service that does not run.
    pub fn spawn(&mut self, service: Service) -> anyhow::Result<()> {
        let [api, ui, orchestrator, sampler, image] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let path = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path(&format!("{}.out", service.name())))?;
        let child = Command::new(binary(service)?)
            .envs([
                ("GATEWAY_ADDR", &api),
                ("UI_ADDR", &ui),
                ("ORCHESTRATOR_ADDR", &orchestrator),
                ("STAGE_SAMPLER_ADDR", &sampler),
                ("STAGE_IMAGE_ADDR", &image),
            ])
            .envs(
                [
                    ("MODELS_DIR", ""),
                    ("DATA_DIR", "data"),
                    ("ARTIFACTS_ROOT", "artifacts"),
                    ("INPUT_DIR", "input"),
                    ("OUTPUT_DIR", "output"),
                    ("TEMP_DIR", "temp"),
                    ("USER_DIR", "user"),
                    ("LOG_DIR", "log"),
                ]
                .map(|(name, folder)| (name, path(folder))),
            )
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", service.name()))?;
        self.children.push((service, child));
        Ok(())
    }

    /// Ends a service as a crash would: at once, without a chance to tidy up.
    pub fn kill(&mut self, service: Service) -> anyhow::Result<()> {
        let at = self.children.iter().position(|(s, _)| *s == service).context("the service does not run")?;
        let (_, mut child) = self.children.remove(at);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal such as `STOP` to a service.
    pub fn signal(&self, service: Service, signal: &str) -> anyhow::Result<()> {
        let running = self.children.iter().find(|(s, _)| *s == service);
        let (_, child) = running.context("the service does not run")?;
        let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        if !status.success() {
            bail!("{service:?} cannot be sent {signal}");
        }
        Ok(())
    }

    /// Fails when a service has ended on its own.
    pub fn assert_all_alive(&mut self) -> anyhow::Result<()> {
        for (service, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                bail!("{service:?} ended with {status}");
            }
        }
        Ok(())
    }

    /// The memory that a service holds, in MiB.
    pub fn memory_mib(&self, service: Service) -> anyhow::Result<u64> {
        let (_, child) =
            self.children.iter().find(|(s, _)| *s == service).context("the service does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024)
    }

    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let answer = reqwest::get(self.url("/readyz")).await;
            if answer.is_ok_and(|r| r.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(60) {
                bail!("the stack is not ready after a minute:\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A URL of the gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[0])
    }

    /// The address of the gateway, for WebSockets.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// A folder of the stack.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How many PNG files are in the output folder.
    pub fn saved_pictures(&self) -> anyhow::Result<usize> {
        let is_picture = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|x| x == "png");
        Ok(std::fs::read_dir(self.folder("output"))?.flatten().filter(is_picture).count())
    }

    /// What the services printed, for failure messages.
    pub fn logs(&self) -> String {
        Service::ALL
            .iter()
            .map(|s| {
                let text =
                    std::fs::read_to_string(self.folder(&format!("{}.out", s.name()))).unwrap_or_default();
                format!("--- {}\n{text}\n", s.name())
            })
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Finds a service's binary: beside the folder this test was built into, where cargo puts it.
fn binary(service: Service) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the test has no build folder")?;
    let path = folder.join(service.name());
    if !path.is_file() {
        bail!("`{}` is not built; run `cargo build --workspace --bins` first", path.display());
    }
    Ok(path)
}

/// Reserves ports by binding them all before letting any go.
fn free_ports() -> anyhow::Result<[u16; 5]> {
    let listeners: Vec<TcpListener> =
        (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports: Vec<u16> =
        listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<anyhow::Result<_>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("five listeners have five ports"))
}
