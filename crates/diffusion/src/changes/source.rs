//! Where the weights of a part come from.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::merge::{MergedTensor, OpenMerge, Piece};
use super::text_names::{StoredPart, text_tensors};
use super::{Change, Merge, Patches, Shares};
use crate::adapters::layers::{self, Layer};
use crate::adapters::{UsedAdapter, check_fit};
use crate::checkpoint::{ClipConfig, Float8, UnetConfig, WeightFile, detect};
use crate::error::{Error, Result};
use crate::families::{Family, TextPart};
use crate::text;

/// A diffusion model: a file, how its weights are rounded, and what is then changed about them.
#[derive(Debug, Clone)]
pub struct ModelSource {
    pub path: PathBuf,
    /// Rounds every weight as a file of that format would hold it.
    pub stored_as: Option<Float8>,
    pub changes: Vec<Change<ModelSource>>,
}

/// The text encoders of a model, and what is changed about their weights.
#[derive(Debug, Clone)]
pub struct TextSource {
    pub files: TextFiles,
    pub changes: Vec<Change<TextSource>>,
}

/// Where text encoders are.
#[derive(Debug, Clone)]
pub enum TextFiles {
    /// In the checkpoint of their model, or a CLIP-L alone.
    Checkpoint(PathBuf),
    /// Each in a file of its own, in any order: CLIP-L for Stable Diffusion 1, CLIP-H for 2, CLIP-G for the refiner
    /// of XL, CLIP-L and CLIP-G for XL.
    Encoders(Vec<PathBuf>),
}

/// A diffusion model whose header has been read.
#[derive(Debug)]
pub(crate) struct OpenModel {
    pub file: Arc<WeightFile>,
    pub family: Family,
    pub config: UnetConfig,
    pub stored_as: Option<Float8>,
    pub patches: Patches,
}

/// A text encoder whose header has been read.
#[derive(Debug)]
pub(crate) struct OpenText {
    pub part: TextPart,
    pub config: ClipConfig,
    pub file: Arc<WeightFile>,
    pub patches: Patches,
}

impl ModelSource {
    /// A file as it is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), stored_as: None, changes: Vec::new() }
    }

    /// Opens the file and all that it is merged with.
    ///
    /// # Errors
    /// If a file is of a family that cannot be run, or a change does not go with the model.
    pub(crate) fn open(&self) -> Result<OpenModel> {
        let file = WeightFile::open(&self.path)?;
        let detection = detect(file.header());
        let refused =
            |reason| Error::Unsupported { path: self.path.clone(), part: "diffusion model", reason };
        if let Some(reason) = detection.family.refusal() {
            return Err(refused(reason));
        }
        let config = detection.unet.ok_or_else(|| refused("its layout could not be read".into()))?;
        let (stored_as, patches) = (self.stored_as, Patches::default());
        let mut open =
            OpenModel { file: Arc::new(file), family: detection.family, config, stored_as, patches };
        let layers = layers::unet(&open.config);
        for change in &self.changes {
            match change {
                Change::Adapter(used) => {
                    let fitting = open.patches.push_adapter(&layers, used);
                    check_fit(used, fitting, "diffusion model", layers::is_unet_name)?;
                }
                Change::Attention(factors) => {
                    open.patches.push_factors(&layers, factors);
                }
                Change::Merge(merge) => open.merge(merge)?,
            }
        }
        Ok(open)
    }
}

impl OpenModel {
    fn merge(&mut self, merge: &Merge<ModelSource>) -> Result<()> {
        let OpenModel { file, stored_as, patches, family, .. } = merge.other.open()?;
        let tensors = OpenMerge::unet_tensors(merge, &self.file, &file, UnetConfig::PREFIX);
        // An inpainting model differs from its base in one tensor, models of two families in most.
        let same_shape = |key: &&String| self.file.header().shape(key) == file.header().shape(key);
        let own = self.file.header().keys().filter(|key| key.starts_with(UnetConfig::PREFIX)).count();
        if 2 * tensors.keys().filter(same_shape).count() < own {
            return Err(Error::Unsupported {
                path: file.path().into(),
                part: "diffusion model",
                reason: format!("{family} of this size cannot be merged into this {}", self.family),
            });
        }
        self.patches.push_merge(OpenMerge { file, stored_as, patches, tensors });
        Ok(())
    }
}

impl TextSource {
    /// Text encoders as their files have them.
    pub fn new(files: TextFiles) -> Self {
        Self { files, changes: Vec::new() }
    }

    /// Opens the files and all that they are merged with, in the order their outputs are joined.
    ///
    /// # Errors
    /// If an encoder is missing, or a change does not go with them.
    pub(crate) fn open(&self) -> Result<Vec<OpenText>> {
        let mut open = self.files.open()?;
        let configs: Vec<ClipConfig> = open.iter().map(|encoder| encoder.config.clone()).collect();
        let layers: Vec<Vec<Layer>> = layers::text(&configs);
        for change in &self.changes {
            match change {
                Change::Adapter(used) => push_adapter(&mut open, &layers, used)?,
                Change::Attention(factors) => {
                    for (encoder, layers) in open.iter_mut().zip(&layers) {
                        encoder.patches.push_factors(layers, factors);
                    }
                }
                Change::Merge(merge) => merge_text(&mut open, merge)?,
            }
        }
        Ok(open)
    }
}

fn push_adapter(open: &mut [OpenText], layers: &[Vec<Layer>], used: &UsedAdapter) -> Result<()> {
    let each = open.iter_mut().zip(layers);
    let fitting = each.map(|(encoder, layers)| encoder.patches.push_adapter(layers, used)).sum();
    check_fit(used, fitting, "text encoder", layers::is_text_name)
}

/// Merges encoders of the same name.
fn merge_text(open: &mut [OpenText], merge: &Merge<TextSource>) -> Result<()> {
    let mut merged = 0;
    let others = merge.other.open()?;
    let names: Vec<&str> = others.iter().map(|other| other.part.name).collect();
    for other in others {
        let Some(own) = open.iter_mut().find(|own| own.part.name == other.part.name) else { continue };
        let mut tensors = text_pieces(&own.config, &other.config);
        for (key, merged) in &mut tensors {
            merged.shares = merge.shares_of(key.strip_prefix(&own.config.prefix).unwrap_or(key));
        }
        own.patches.push_merge(OpenMerge {
            file: other.file,
            stored_as: None,
            patches: other.patches,
            tensors,
        });
        merged += 1;
    }
    if merged == 0 {
        let (own, other) = (open.iter().map(|own| own.part.name).collect::<Vec<_>>(), names);
        return Err(Error::InvalidArgument(format!(
            "text encoders `{}` cannot be merged into `{}`",
            other.join("`, `"),
            own.join("`, `")
        )));
    }
    Ok(())
}

/// Pairs the tensors of two encoders, however each of them is stored, by the keys of `own`.
pub(crate) fn text_pieces(own: &ClipConfig, other: &ClipConfig) -> HashMap<String, MergedTensor> {
    let shares = Shares { own: 1.0, other: 1.0 };
    let theirs: HashMap<String, _> =
        text_tensors(other).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut tensors: HashMap<String, MergedTensor> = HashMap::new();
    for tensor in text_tensors(own) {
        let Some(found) = theirs.get(&tensor.name) else { continue };
        let piece = Piece { key: found.key.clone(), there: found.part, here: tensor.part };
        let entry = tensors.entry(tensor.key);
        let merged = entry.or_insert_with(|| MergedTensor { shares, pieces: Vec::new() });
        // Stored alike, so one piece stands for all three.
        if merged.pieces.iter().all(|earlier| earlier.key != piece.key) || piece.there != piece.here {
            merged.pieces.push(piece);
        }
    }
    for merged in tensors.values_mut() {
        if let [piece] = &mut merged.pieces[..]
            && piece.there == piece.here
        {
            (piece.there, piece.here) = (StoredPart::Whole, StoredPart::Whole);
        }
    }
    tensors
}

impl TextFiles {
    fn open(&self) -> Result<Vec<OpenText>> {
        match self {
            Self::Checkpoint(path) => {
                let file = Arc::new(WeightFile::open(path)?);
                let parts = detect(file.header()).family.text();
                let configs = ClipConfig::all(file.header(), parts).map_err(|reason| Error::Unsupported {
                    path: path.clone(),
                    part: "text encoder",
                    reason,
                })?;
                let open = |(config, part): (ClipConfig, &TextPart)| OpenText {
                    part: *part,
                    config,
                    file: Arc::clone(&file),
                    patches: Patches::default(),
                };
                Ok(configs.into_iter().zip(parts).map(open).collect())
            }
            Self::Encoders(paths) => open_encoders(paths),
        }
    }
}

fn open_encoders(paths: &[PathBuf]) -> Result<Vec<OpenText>> {
    let unusable = |path: &std::path::Path, reason| Error::Unsupported {
        path: path.into(),
        part: "text encoder",
        reason,
    };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = WeightFile::open(path)?;
        let (kind, layout) = text::encoder_kind(file.header()).map_err(|reason| unusable(path, reason))?;
        files.push((kind, layout, file));
    }
    files.sort_by_key(|(kind, ..)| *kind);
    let kinds: Vec<_> = files.iter().map(|(kind, ..)| *kind).collect();
    let first = paths.first().cloned().unwrap_or_default();
    let family = text::family_of(&kinds).map_err(|reason| unusable(&first, reason))?;
    let mut open = Vec::with_capacity(files.len());
    for ((_, layout, file), part) in files.into_iter().zip(family.text()) {
        let part = text::place(layout, *part);
        let config =
            ClipConfig::from_header(file.header(), &part).map_err(|reason| unusable(file.path(), reason))?;
        open.push(OpenText { part, config, file: Arc::new(file), patches: Patches::default() });
    }
    Ok(open)
}
