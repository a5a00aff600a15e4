//! `GET /system_stats`: what the page's "About" and its first request show.

use crate::app::Shared;
use crate::error::ComfyError;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// The version whose API this surface speaks.
pub const COMFYUI_VERSION: &str = "0.3.64";

#[utoipa::path(
    get,
    path = "/system_stats",
    tag = "comfyui",
    summary = "Shows memory and devices.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn get(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    let (ram_total, ram_free) = crate::files::blocking(|| Ok(memory())).await?;
    // The page must come up even when the orchestrator is away.
    let services = app.orchestrator.system().await.map(|system| system.services).unwrap_or_default();
    let devices: Vec<Value> = services
        .iter()
        .filter(|service| service.serving && service.name.contains("sampler"))
        .map(|service| {
            let cuda = service.detail.to_ascii_lowercase().contains("cuda");
            let (total, free) = if cuda { (0, 0) } else { (ram_total, ram_free) };
            json!({
                "name": format!("{} {}", service.name, service.detail).trim_end(),
                "type": if cuda { "cuda" } else { "cpu" },
                "index": if cuda { json!(0) } else { Value::Null },
                // The memory of a GPU is known to its stage only.
                "vram_total": total,
                "vram_free": free,
                "torch_vram_total": total,
                "torch_vram_free": free,
            })
        })
        .collect();
    Ok(Json(json!({
        "system": {
            "os": std::env::consts::OS,
            "ram_total": ram_total,
            "ram_free": ram_free,
            "comfyui_version": COMFYUI_VERSION,
            "required_frontend_version": "1.27.10",
            "installed_templates_version": null,
            "required_templates_version": null,
            "python_version": "none",
            "pytorch_version": "none",
            "embedded_python": false,
            "argv": ["gateway"],
        },
        "devices": devices,
    })))
}

/// Total and available memory in bytes; zeros where the system does not say.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    (field("MemTotal:").unwrap_or(0), field("MemAvailable:").unwrap_or(0))
}
