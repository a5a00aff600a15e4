//! The model files on disk: which there are, what their headers say, which are offered.

use crate::config::{Config, PipelineKind, WordList};
use comfy_artifacts::folders::fingerprint;
use comfy_diffusion::checkpoint::{CheckpointHeader, VaeConfig, detect};
use comfy_diffusion::families::Family;
use comfy_graph::ComboOption;
use comfy_proto::stage::ModelFile;
use comfy_stage::NodeError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// The checkpoint of random weights that a fresh installation writes.
const RANDOM_CHECKPOINT: &str = "tiny_sd1_random.safetensors";
const RANDOM_NOTE: &str =
    "random weights: its pictures are noise until you put a real checkpoint into models/checkpoints";
const EXTENSIONS: [&str; 5] = ["safetensors", "sft", "ckpt", "pt", "bin"];
/// Deep enough for every sensible collection, shallow enough for a link that leads in a circle.
const MAX_DEPTH: usize = 8;

/// The model folders of this stage.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    checkpoints: PathBuf,
    vae: PathBuf,
    kind: PipelineKind,
    default_checkpoint: String,
    sizes: std::ops::RangeInclusive<u64>,
    allow: WordList,
    deny: WordList,
    // Reading a header costs little, but thousands of files are listed again for every workflow.
    seen: Mutex<HashMap<PathBuf, (String, Verdict)>>,
}

/// What the header of a file says.
#[derive(Debug, Clone, Default)]
struct Verdict {
    family: String,
    /// Why the file cannot be used.
    problem: Option<String>,
}

/// A file that may be loaded.
pub(crate) struct FoundFile {
    pub path: PathBuf,
    pub fingerprint: String,
}

struct Entry {
    name: String,
    path: PathBuf,
    bytes: u64,
    modified_ms: i64,
    fingerprint: String,
}

impl ModelFiles {
    /// The folders that this stage knows.
    pub(crate) const FOLDERS: [&'static str; 2] = ["checkpoints", "vae"];

    pub(crate) fn new(config: &Config) -> Self {
        Self {
            checkpoints: config.checkpoints_dir.clone(),
            vae: config.vae_dir.clone(),
            kind: config.pipeline_kind,
            default_checkpoint: config.default_checkpoint.clone(),
            sizes: config.min_checkpoint_bytes..=config.max_checkpoint_bytes,
            allow: config.checkpoint_allowlist.clone(),
            deny: config.checkpoint_blacklist.clone(),
            seen: Mutex::default(),
        }
    }

    fn root(&self, folder: &str) -> Option<&Path> {
        match folder {
            "checkpoints" => Some(&self.checkpoints),
            "vae" => Some(&self.vae),
            _ => None,
        }
    }

    /// The usable files of a folder, the default first. `None` when the folder is not one of ours.
    pub(crate) fn options(&self, folder: &str) -> Option<Vec<ComboOption>> {
        let mut entries = list(self.root(folder)?);
        entries.retain(|entry| self.verdict(folder, entry).problem.is_none());
        entries.sort_by_key(|entry| (entry.name != self.default_checkpoint, entry.name == RANDOM_CHECKPOINT));
        let option = |e: Entry| ComboOption { value: e.name, fingerprint: Some(e.fingerprint) };
        Some(entries.into_iter().map(option).collect())
    }

    /// Every file of a folder with what its header says; of all folders when `folder` is empty.
    pub(crate) fn describe(&self, folder: &str) -> Vec<ModelFile> {
        let folders = Self::FOLDERS.into_iter().filter(|f| folder.is_empty() || *f == folder);
        folders.flat_map(|folder| self.describe_folder(folder)).collect()
    }

    fn describe_folder(&self, folder: &str) -> Vec<ModelFile> {
        let entries = self.root(folder).map(list).unwrap_or_default();
        let describe = |entry: Entry| {
            let verdict = self.verdict(folder, &entry);
            let note = if entry.name == RANDOM_CHECKPOINT { RANDOM_NOTE } else { "" };
            ModelFile {
                folder: folder.into(),
                bytes: entry.bytes,
                modified_ms: entry.modified_ms,
                family: verdict.family,
                usable: verdict.problem.is_none(),
                reason: verdict.problem.unwrap_or_default(),
                is_default: folder == "checkpoints" && entry.name == self.default_checkpoint,
                note: note.into(),
                name: entry.name,
            }
        };
        entries.into_iter().map(describe).collect()
    }

    /// Finds a file by the name that a workflow gives.
    ///
    /// # Errors
    /// Names the choices when there is no such file, or says why it cannot be used.
    pub(crate) fn find(&self, folder: &str, name: &str) -> Result<FoundFile, NodeError> {
        let entries = self.root(folder).map(list).unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
            let choices: Vec<_> = entries.iter().map(|e| format!("`{}`", e.name)).take(20).collect();
            let choices = if choices.is_empty() { "the folder is empty".into() } else { choices.join(", ") };
            return Err(NodeError::not_found(format!("there is no file `{name}` in `{folder}`: {choices}")));
        };
        match self.verdict(folder, entry).problem {
            Some(problem) => Err(NodeError::invalid(format!("`{name}` cannot be used: {problem}"))),
            None => Ok(FoundFile { path: entry.path.clone(), fingerprint: entry.fingerprint.clone() }),
        }
    }

    fn verdict(&self, folder: &str, entry: &Entry) -> Verdict {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((fingerprint, verdict)) = seen.get(&entry.path)
            && *fingerprint == entry.fingerprint
        {
            return verdict.clone();
        }
        let verdict = self.judge(folder, entry);
        seen.insert(entry.path.clone(), (entry.fingerprint.clone(), verdict.clone()));
        verdict
    }

    fn judge(&self, folder: &str, entry: &Entry) -> Verdict {
        let problem = |text: String| Verdict { family: String::new(), problem: Some(text) };
        if folder == "checkpoints" {
            if !self.sizes.contains(&entry.bytes) {
                let (min, max) = (self.sizes.start(), self.sizes.end());
                return problem(format!("its size of {} bytes is outside {min}..={max}", entry.bytes));
            }
            if (!self.allow.is_empty() && !self.allow.matches(&entry.name)) || self.deny.matches(&entry.name)
            {
                return problem("its name is not allowed by this installation".into());
            }
        }
        if !matches!(extension(&entry.path).as_deref(), Some("safetensors" | "sft")) {
            return problem("pickled files are not read, convert it to safetensors".into());
        }
        let header = match CheckpointHeader::read(&entry.path) {
            Ok(header) => header,
            Err(error) => return problem(error.to_string()),
        };
        if folder == "vae" {
            let problem = VaeConfig::from_header(&header).err();
            return Verdict { family: "vae".into(), problem };
        }
        let detection = detect(&header);
        let problem = detection.family.refusal().or_else(|| self.wrong_kind(&detection.family));
        Verdict { family: detection.family.id().into(), problem }
    }

    fn wrong_kind(&self, family: &Family) -> Option<String> {
        let (wanted, fits) = match self.kind {
            PipelineKind::Auto => return None,
            PipelineKind::Sd15 => ("sd15", family.id().starts_with("sd1")),
            PipelineKind::Sdxl => ("sdxl", family.id().starts_with("sdxl")),
        };
        (!fits).then(|| format!("it is {family}, but PIPELINE_KIND is `{wanted}`"))
    }
}

fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|e| e.to_str()).map(str::to_lowercase)
}

/// Lists the model files below a folder, sorted by name.
fn list(root: &Path) -> Vec<Entry> {
    let mut found = Vec::new();
    list_into(root, "", MAX_DEPTH, &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn list_into(root: &Path, prefix: &str, depth: usize, found: &mut Vec<Entry>) {
    let Ok(entries) = std::fs::read_dir(root.join(prefix)) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Follows links: big files are often kept elsewhere and linked.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if metadata.is_dir() && depth > 0 {
            list_into(root, &name, depth - 1, found);
        } else if metadata.is_file()
            && extension(&entry.path()).is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
        {
            let modified =
                metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            found.push(Entry {
                name,
                path: entry.path(),
                bytes: metadata.len(),
                modified_ms: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
                fingerprint: fingerprint(&metadata),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn another_kind_than_asked_for_is_named() {
        let check = |kind: &str, family: &Family, expected: Option<&str>| {
            let config = Config::parse_from(["stage-sampler", "--pipeline-kind", kind]);
            let found = ModelFiles::new(&config).wrong_kind(family);
            assert_eq!(found.as_deref(), expected, "{kind} {family}");
        };
        check("auto", &Family::Sd2, None);
        check("sd15", &Family::Sd1Inpaint, None);
        check("sd15", &Family::Sdxl, Some("it is Stable Diffusion XL, but PIPELINE_KIND is `sd15`"));
        check("sdxl", &Family::SdxlRefiner, None);
        check("sdxl", &Family::Sd2, Some("it is Stable Diffusion 2, but PIPELINE_KIND is `sdxl`"));
    }
}
