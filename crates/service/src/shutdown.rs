//! Ends a service politely.

/// Resolves when the process is asked to stop by SIGTERM or Ctrl-C.
///
/// # Panics
/// When the signal handlers cannot be installed, which only happens at start.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled on every Unix");
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.expect("SIGINT can be handled on every Unix"),
    }
    tracing::info!("shutdown requested");
}
