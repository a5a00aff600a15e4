//! Compiles `proto/` with a pure-Rust compiler, so that nobody has to install `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = [
        "comfy/graph/v1/graph.proto",
        "comfy/stage/v1/stage.proto",
        "comfy/orchestrator/v1/orchestrator.proto",
    ];
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(files, [&root])?;
    tonic_prost_build::configure().build_transport(true).compile_fds(descriptors)?;
    Ok(())
}
