//! Logs: readable lines on stdout and JSON lines in `<log dir>/<service>/<service>.log`.

use anyhow::Context as _;
use std::path::Path;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Starts logging for the process. Keep the guard until the end, it flushes the file.
///
/// `RUST_LOG` chooses what is logged (default `info`). Prompts and workflow text are never above debug.
///
/// # Errors
/// When `RUST_LOG` does not parse, when the folder cannot be made, or when logging was started before.
pub fn init(service: &str, log_dir: &Path) -> anyhow::Result<WorkerGuard> {
    init_with(service, log_dir, None)
}

/// Starts logging as [`init`] does, and writes lines without a time to `also`.
///
/// # Errors
/// As [`init`].
pub fn init_with(service: &str, log_dir: &Path, also: Option<BoxMakeWriter>) -> anyhow::Result<WorkerGuard> {
    let dir = log_dir.join(service);
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make the log folder `{}`", dir.display()))?;
    let (file, guard) =
        tracing_appender::non_blocking(tracing_appender::rolling::never(&dir, format!("{service}.log")));
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .with_context(|| format!("`RUST_LOG` holds `{text}`, which is not a filter"))?,
        _ => EnvFilter::new("info"),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::fmt::layer().with_target(false).boxed())
        .with(tracing_subscriber::fmt::layer().json().with_writer(file).boxed())
        .with(also.map(|writer| {
            let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false);
            layer.without_time().with_writer(writer).boxed()
        }))
        .try_init()
        .context("logging was started twice")?;
    Ok(guard)
}
