//! The model files on disk: which there are, what their headers say, which are offered.

use crate::config::{Config, PipelineKind, WordList};
use comfy_artifacts::folders::fingerprint;
use comfy_diffusion::adapters::Adapter;
use comfy_diffusion::checkpoint::{CheckpointHeader, VaeConfig, detect};
use comfy_diffusion::families::Family;
use comfy_diffusion::upscale::Upscaler;
use comfy_graph::ComboOption;
use comfy_proto::stage::ModelFile;
use comfy_stage::NodeError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// Where a safetensors file says what it is for, in the ModelSpec convention of Stability AI.
const DESCRIPTION: &str = "modelspec.description";
/// A description is shown in a line or two.
const MAX_NOTE_CHARS: usize = 300;
/// The folder of adapters.
pub(crate) const LORAS: &str = "loras";
/// The folder of upscalers.
pub(crate) const UPSCALERS: &str = "upscale_models";
const EXTENSIONS: [&str; 5] = ["safetensors", "sft", "ckpt", "pt", "bin"];
/// Deep enough for every sensible collection, shallow enough for a link that leads in a circle.
const MAX_DEPTH: usize = 8;

/// The model folders of this stage.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    checkpoints: PathBuf,
    vae: PathBuf,
    loras: PathBuf,
    upscalers: PathBuf,
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
    /// What the file's author says of it.
    note: String,
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
    pub(crate) const FOLDERS: [&'static str; 4] = ["checkpoints", "vae", LORAS, UPSCALERS];

    pub(crate) fn new(config: &Config) -> Self {
        Self {
            checkpoints: config.checkpoints_dir.clone(),
            vae: config.vae_dir.clone(),
            loras: config.loras_dir.clone(),
            upscalers: config.upscale_models_dir.clone(),
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
            LORAS => Some(&self.loras),
            UPSCALERS => Some(&self.upscalers),
            _ => None,
        }
    }

    /// The usable files of a folder, the default first. `None` when the folder is not one of ours.
    pub(crate) fn options(&self, folder: &str) -> Option<Vec<ComboOption>> {
        let mut entries = list(self.root(folder)?);
        entries.retain(|entry| self.verdict(folder, entry).problem.is_none());
        entries.sort_by_key(|entry| entry.name != self.default_checkpoint);
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
            ModelFile {
                folder: folder.into(),
                bytes: entry.bytes,
                modified_ms: entry.modified_ms,
                family: verdict.family,
                usable: verdict.problem.is_none(),
                reason: verdict.problem.unwrap_or_default(),
                is_default: folder == "checkpoints" && entry.name == self.default_checkpoint,
                note: verdict.note,
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
        let problem = |text: String| Verdict { problem: Some(text), ..Verdict::default() };
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
        let note = header.metadata().get(DESCRIPTION).map(|text| text.chars().take(MAX_NOTE_CHARS).collect());
        let note = note.unwrap_or_default();
        if folder == "vae" {
            let problem = VaeConfig::from_header(&header).err();
            return Verdict { family: "vae".into(), note, problem };
        }
        if folder == LORAS {
            let problem = (!Adapter::is_in(&header)).then(|| "there is no adapter layer in it".to_owned());
            return Verdict { family: "adapter".into(), note, problem };
        }
        if folder == UPSCALERS {
            return Verdict { family: "upscaler".into(), note, problem: Upscaler::refusal(&header) };
        }
        let detection = detect(&header);
        let problem = detection.family.refusal().or_else(|| self.wrong_kind(&detection.family));
        Verdict { family: detection.family.id().into(), note, problem }
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
