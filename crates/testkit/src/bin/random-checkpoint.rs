//! Writes a reproducible random model file: `random-checkpoint KIND OUT`, as PyTorch writes it where OUT ends in `.pt`.

use std::path::{Path, PathBuf};

use comfy_testkit::part_files::write_torch;
use comfy_testkit::random_checkpoint::{COMPANIONS, CONTROL_FILES, LAYOUTS};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(out), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: random-checkpoint {} OUT", kinds());
    };
    let out = PathBuf::from(out);
    if out.extension().is_none_or(|extension| extension != "pt") {
        return write(&kind, &out);
    }
    let plain = out.with_extension("pt.safetensors");
    write(&kind, &plain)?;
    write_torch(&plain, &out, &|name| Some(name.to_owned()))?;
    Ok(std::fs::remove_file(plain)?)
}

fn kinds() -> String {
    let layouts = LAYOUTS.iter().map(|layout| layout.name);
    let others = CONTROL_FILES.iter().map(|file| file.name).chain(COMPANIONS.iter().map(|file| file.name));
    layouts.chain(others).collect::<Vec<_>>().join("|")
}

fn write(kind: &str, out: &Path) -> anyhow::Result<()> {
    if let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == kind) {
        return Ok(layout.write(out)?);
    }
    if let Some(file) = CONTROL_FILES.iter().find(|file| file.name == kind) {
        return Ok(file.write(out)?);
    }
    let Some(file) = COMPANIONS.iter().find(|file| file.name == kind) else {
        anyhow::bail!("unknown kind `{kind}`, expected one of {}", kinds());
    };
    Ok(file.write(out)?)
}
