//! The model files on disk: which there are, what their headers say, which are offered.

use crate::config::{Config, PipelineKind, WordList};
use crate::covers;
use crate::model_folders::{
    CHECKPOINTS, CLIP_VISION, CONTROLNETS, EMBEDDINGS, GLIGEN, HYPERNETWORKS, LORAS, STYLE_MODELS,
    TEXT_ENCODERS, UPSCALERS, VAE_APPROX, VAES,
};
use crate::pickles::{NotConverted, Pickles};
use comfy_artifacts::folders::fingerprint;
use comfy_diffusion::adapters::Adapter;
use comfy_diffusion::checkpoint::{CheckpointHeader, detect};
use comfy_diffusion::control::ControlNetwork;
use comfy_diffusion::families::{Family, sd1, sdxl};
use comfy_diffusion::text::{Embedding, encoder_kind};
use comfy_diffusion::upscale::Upscaler;
use comfy_diffusion::vae::Vae;
use comfy_diffusion::vision::{StyleModel, VisionConfig};
use comfy_diffusion::{Gligen, Hypernetwork};
use comfy_graph::ComboOption;
use comfy_proto::stage::ModelFile;
use comfy_stage::NodeError;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// Where a safetensors file says what it is for, in the ModelSpec convention of Stability AI.
const DESCRIPTION: &str = "modelspec.description";
/// A description is shown in a line or two.
const MAX_NOTE_CHARS: usize = 300;
/// What a prompt may leave out of an embedding's name, in the order it is tried.
const EMBEDDING_ENDS: [&str; 4] = ["", ".safetensors", ".pt", ".bin"];
/// Autoencoders whose halves are two files in [`VAE_APPROX`], and the factor of the latents they are for.
pub(crate) const TINY_VAES: [(&str, f64); 2] =
    [("taesd", sd1::LATENT_SCALE), ("taesdxl", sdxl::LATENT_SCALE)];
const PICKLE_NOTE: &str = "a PyTorch file: it is converted to safetensors when it is first used";
const SAFETENSORS: [&str; 2] = ["safetensors", "sft"];
/// The rest are PyTorch files.
const EXTENSIONS: [&str; 8] = ["safetensors", "sft", "ckpt", "pt", "pt2", "bin", "pth", "pkl"];
/// Deep enough for every sensible collection, shallow enough for a link that leads in a circle.
const MAX_DEPTH: usize = 8;

/// The model folders of this stage.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    /// See [`ModelFolders::roots`](crate::model_folders::ModelFolders::roots).
    roots: Vec<(&'static str, Vec<PathBuf>)>,
    pickles: Pickles,
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
    /// A file that says nothing until it is converted.
    pickle: bool,
}

impl Verdict {
    fn unusable(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

/// A file that may be loaded.
pub(crate) struct FoundFile {
    /// A safetensors file: the one asked for, or what it was converted to.
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
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            roots: config.models.roots(),
            pickles: Pickles::new(&config.artifacts_root, config.pickle_timeout),
            kind: config.pipeline_kind,
            default_checkpoint: config.default_checkpoint.clone(),
            sizes: config.min_checkpoint_bytes..=config.max_checkpoint_bytes,
            allow: config.checkpoint_allowlist.clone(),
            deny: config.checkpoint_blacklist.clone(),
            seen: Mutex::default(),
        }
    }

    /// The files of a folder, sorted by name. `None` when the folder is not one of ours.
    fn list(&self, folder: &str) -> Option<Vec<Entry>> {
        let (_, roots) = self.roots.iter().find(|(known, _)| *known == folder)?;
        let mut found: Vec<Entry> = Vec::new();
        for root in roots {
            list_into(root, "", MAX_DEPTH, &mut found);
        }
        // Sorting keeps the order of equals, so where both places have a name, the first place wins.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|later, first| later.name == first.name);
        Some(found)
    }

    /// The usable files of a folder, the default first. `None` when the folder is not one of ours.
    pub(crate) fn options(&self, folder: &str) -> Option<Vec<ComboOption>> {
        let mut entries = self.list(folder)?;
        entries.retain(|entry| self.verdict(folder, entry).problem.is_none());
        entries.sort_by_key(|entry| entry.name != self.default_checkpoint);
        let option = |e: Entry| ComboOption { value: e.name, fingerprint: Some(e.fingerprint) };
        let mut options: Vec<_> = entries.into_iter().map(option).collect();
        if folder == VAES {
            options.extend(self.tiny_vaes());
        }
        Some(options)
    }

    /// The autoencoders whose two halves are there and can be used.
    fn tiny_vaes(&self) -> Vec<ComboOption> {
        let mut entries = self.list(VAE_APPROX).unwrap_or_default();
        entries.retain(|entry| self.verdict(VAE_APPROX, entry).problem.is_none());
        let half = |name: &str, half: &str| {
            let start = format!("{name}_{half}.");
            entries.iter().find(|entry| entry.name.starts_with(&start)).map(|entry| &entry.fingerprint)
        };
        let option = |(name, _): (&str, f64)| {
            let fingerprint = joint(half(name, "encoder")?, half(name, "decoder")?);
            Some(ComboOption { value: name.into(), fingerprint: Some(fingerprint) })
        };
        TINY_VAES.into_iter().filter_map(option).collect()
    }

    /// Finds the halves of an autoencoder of [`TINY_VAES`]: encoder, decoder, and the fingerprint of both.
    ///
    /// # Errors
    /// When one is not there, and as [`ModelFiles::find`].
    pub(crate) fn find_tiny_vae(
        &self,
        name: &str,
        go_on: &dyn Fn() -> Result<(), NodeError>,
    ) -> Result<([FoundFile; 2], String), NodeError> {
        let mut entries = self.list(VAE_APPROX).unwrap_or_default();
        // The list of choices passes over a broken file beside a good one; alone, it is found and refused with a reason.
        entries.sort_by_key(|entry| self.verdict(VAE_APPROX, entry).problem.is_some());
        let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        let half = |half: &str| {
            let start = format!("{name}_{half}.");
            let file = names.iter().find(|name| name.starts_with(&start)).ok_or_else(|| {
                let place = format!("`{name}_{half}.safetensors` or `{name}_{half}.pth`");
                NodeError::not_found(format!("`{name}` needs {place} in `{VAE_APPROX}`"))
            })?;
            self.find(VAE_APPROX, file, go_on)
        };
        let halves = [half("encoder")?, half("decoder")?];
        let fingerprint = joint(&halves[0].fingerprint, &halves[1].fingerprint);
        Ok((halves, fingerprint))
    }

    /// Every file of a folder with what its header says; of all folders when `folder` is empty.
    pub(crate) fn describe(&self, folder: &str) -> Vec<ModelFile> {
        let folders = self.roots.iter().map(|(name, _)| *name).filter(|f| folder.is_empty() || *f == folder);
        folders.flat_map(|folder| self.describe_folder(folder)).collect()
    }

    fn describe_folder(&self, folder: &str) -> Vec<ModelFile> {
        let entries = self.list(folder).unwrap_or_default();
        let describe = |entry: Entry| {
            let verdict = self.verdict(folder, &entry);
            let note = if verdict.pickle { PICKLE_NOTE.into() } else { verdict.note };
            ModelFile {
                folder: folder.into(),
                bytes: entry.bytes,
                modified_ms: entry.modified_ms,
                family: verdict.family,
                usable: verdict.problem.is_none(),
                reason: verdict.problem.unwrap_or_default(),
                is_default: folder == CHECKPOINTS && entry.name == self.default_checkpoint,
                note,
                has_cover: covers::beside(&entry.path).is_some(),
                name: entry.name,
            }
        };
        entries.into_iter().map(describe).collect()
    }

    /// Finds a file by the name that a workflow gives. A PyTorch file is converted if it has not been; `go_on` is
    /// asked in between.
    ///
    /// # Errors
    /// Names the choices when there is no such file, or says why it cannot be used. What `go_on` gives.
    pub(crate) fn find(
        &self,
        folder: &str,
        name: &str,
        go_on: &dyn Fn() -> Result<(), NodeError>,
    ) -> Result<FoundFile, NodeError> {
        let entries = self.list(folder).unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
            let choices: Vec<_> = entries.iter().map(|e| format!("`{}`", e.name)).take(20).collect();
            let choices = if choices.is_empty() { "the folder is empty".into() } else { choices.join(", ") };
            return Err(NodeError::not_found(format!("there is no file `{name}` in `{folder}`: {choices}")));
        };
        let unusable = |problem: &str| NodeError::invalid(format!("`{name}` cannot be used: {problem}"));
        let mut verdict = self.verdict(folder, entry);
        if verdict.pickle {
            match self.pickles.convert(&entry.path, &entry.fingerprint, go_on) {
                Ok(_) => verdict = self.judge_again(folder, entry),
                Err(NotConverted::Refused(reason)) => {
                    // Remembered, so that the file is no longer offered and listings say why.
                    self.remember(entry, Verdict::unusable(reason.clone()));
                    return Err(unusable(&reason));
                }
                Err(NotConverted::Failed(error)) => return Err(error),
            }
        }
        if let Some(problem) = &verdict.problem {
            return Err(unusable(problem));
        }
        let path = self.readable(entry).unwrap_or_else(|| entry.path.clone());
        Ok(FoundFile { path, fingerprint: entry.fingerprint.clone() })
    }

    /// What the author of a file wrote into it. Only safetensors files, or ones already converted to it, say anything.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `InvalidArgument` when its header cannot be read.
    pub(crate) fn metadata(&self, folder: &str, name: &str) -> Result<BTreeMap<String, String>, NodeError> {
        let entries = self.list(folder).unwrap_or_default();
        let entry = entries.iter().find(|entry| entry.name == name);
        let path = entry.and_then(|entry| self.readable(entry)).ok_or_else(|| {
            NodeError::not_found(format!("there is no safetensors file `{name}` in `{folder}`"))
        })?;
        let header = CheckpointHeader::read(&path).map_err(crate::error::engine)?;
        Ok(header.metadata().clone())
    }

    /// The picture file that stands beside a file of a folder.
    pub(crate) fn cover(&self, folder: &str, name: &str) -> Option<Vec<u8>> {
        let entries = self.list(folder)?;
        let entry = entries.iter().find(|entry| entry.name == name)?;
        std::fs::read(covers::beside(&entry.path)?).ok()
    }

    /// The file of an embedding, by the name that a prompt gives; `None` if there is none.
    pub(crate) fn embedding_file(&self, name: &str) -> Option<String> {
        let entries = self.list(EMBEDDINGS)?;
        let has = |wanted: &String| entries.iter().any(|entry| entry.name == *wanted);
        EMBEDDING_ENDS.iter().map(|end| format!("{name}{end}")).find(has)
    }

    fn remember(&self, entry: &Entry, verdict: Verdict) {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        seen.insert(entry.path.clone(), (entry.fingerprint.clone(), verdict));
    }

    fn judge_again(&self, folder: &str, entry: &Entry) -> Verdict {
        let verdict = self.judge(folder, entry);
        self.remember(entry, verdict.clone());
        verdict
    }

    /// The safetensors file to read instead of the file, or the file itself; `None` if it is yet to be converted.
    fn readable(&self, entry: &Entry) -> Option<PathBuf> {
        if extension(&entry.path).is_some_and(|e| SAFETENSORS.contains(&e.as_str())) {
            return Some(entry.path.clone());
        }
        self.pickles.ready(&entry.path, &entry.fingerprint)
    }

    fn verdict(&self, folder: &str, entry: &Entry) -> Verdict {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((fingerprint, verdict)) = seen.get(&entry.path)
            && *fingerprint == entry.fingerprint
            // What was converted may have been thrown away since, and what was not may have been converted.
            && (verdict.problem.is_some() || verdict.pickle == self.readable(entry).is_none())
        {
            return verdict.clone();
        }
        let verdict = self.judge(folder, entry);
        seen.insert(entry.path.clone(), (entry.fingerprint.clone(), verdict.clone()));
        verdict
    }

    fn judge(&self, folder: &str, entry: &Entry) -> Verdict {
        let problem = Verdict::unusable;
        if folder == CHECKPOINTS {
            if !self.sizes.contains(&entry.bytes) {
                let (min, max) = (self.sizes.start(), self.sizes.end());
                return problem(format!("its size of {} bytes is outside {min}..={max}", entry.bytes));
            }
            if (!self.allow.is_empty() && !self.allow.matches(&entry.name)) || self.deny.matches(&entry.name)
            {
                return problem("its name is not allowed by this installation".into());
            }
        }
        let Some(path) = self.readable(entry) else {
            return Verdict { pickle: true, ..Verdict::default() };
        };
        match CheckpointHeader::read(&path) {
            Ok(header) => self.judge_header(folder, &header),
            Err(error) => problem(error.to_string()),
        }
    }

    fn judge_header(&self, folder: &str, header: &CheckpointHeader) -> Verdict {
        let note = header.metadata().get(DESCRIPTION).map(|text| text.chars().take(MAX_NOTE_CHARS).collect());
        let note: String = note.unwrap_or_default();
        let verdict = |family: &str, problem| Verdict { family: family.into(), note, problem, pickle: false };
        match folder {
            VAES => verdict("vae", Vae::refusal(header)),
            VAE_APPROX => verdict("taesd", Vae::tiny_half_refusal(header)),
            CLIP_VISION => verdict("clip-vision", VisionConfig::from_header(header).err()),
            STYLE_MODELS => verdict("style", StyleModel::refusal(header)),
            TEXT_ENCODERS => verdict("clip", encoder_kind(header).err()),
            EMBEDDINGS => verdict("embedding", Embedding::refusal(header)),
            LORAS => {
                let problem = (!Adapter::is_in(header)).then(|| "there is no adapter layer in it".to_owned());
                verdict("adapter", problem)
            }
            UPSCALERS => verdict("upscaler", Upscaler::refusal(header)),
            HYPERNETWORKS => verdict("hypernetwork", Hypernetwork::refusal(header)),
            GLIGEN => verdict("gligen", Gligen::refusal(header)),
            CONTROLNETS => verdict("controlnet", ControlNetwork::kind(header).err()),
            _ => {
                let family = detect(header).family;
                let problem = family.refusal().or_else(|| self.wrong_kind(&family));
                verdict(family.id(), problem)
            }
        }
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

fn joint(encoder: &str, decoder: &str) -> String {
    format!("{encoder}+{decoder}")
}

fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|e| e.to_str()).map(str::to_lowercase)
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
#[path = "model_files_tests.rs"]
mod tests;
