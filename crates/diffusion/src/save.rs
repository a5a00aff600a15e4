//! Writes models, with everything that was changed about them, as safetensors.
//!
//! Tensors are read, changed and written one by one, so a checkpoint needs no more memory than its largest tensor.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::changes::{ModelSource, OpenMerge, OpenText, TextSource, text_pieces};
use crate::checkpoint::{ClipConfig, ClipLayout, Projection, UnetConfig, VaeConfig, WeightFile};
use crate::error::{Error, Result};
use crate::families::{Family, TextPart};
use crate::sampling::Prediction;

/// Where a checkpoint in one file keeps its autoencoder.
const VAE_PREFIX: &str = "first_stage_model.";

/// A file to be written: names, types and shapes are known, numbers are read as they are written.
pub struct SavedFile {
    tensors: Vec<SavedTensor>,
    metadata: BTreeMap<String, String>,
}

struct SavedTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// `None` for a tensor without elements, which marks something.
    from: Option<(Arc<OpenMerge>, String)>,
}

impl SavedTensor {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * (self.dtype.bitsize() / 8) as u64
    }
}

/// The type to write numbers in that a file stores in `stored`; `None` for what are no weights.
fn written_as(stored: Dtype) -> Option<Dtype> {
    match stored {
        Dtype::F32 | Dtype::F64 => Some(Dtype::F32),
        Dtype::BF16 => Some(Dtype::BF16),
        // What is stored in 8 bits comes with a factor, and changes would be lost in so few bits.
        Dtype::F16 | Dtype::F8_E4M3 | Dtype::F8_E5M2 => Some(Dtype::F16),
        _ => None,
    }
}

impl SavedFile {
    /// A diffusion model alone.
    ///
    /// # Errors
    /// As loading it.
    pub fn model(model: &ModelSource) -> Result<Self> {
        let mut file = Self { tensors: Vec::new(), metadata: BTreeMap::new() };
        file.add_model(model)?;
        Ok(file)
    }

    /// A checkpoint with a diffusion model, its text encoders and an autoencoder.
    ///
    /// # Errors
    /// As loading the parts; also if the text encoders are not those of the model's family.
    pub fn checkpoint(model: &ModelSource, text: &TextSource, vae: &Path) -> Result<Self> {
        let mut file = Self { tensors: Vec::new(), metadata: BTreeMap::new() };
        let family = file.add_model(model)?;
        let encoders = text.open()?;
        let names = |parts: &mut dyn Iterator<Item = &'static str>| parts.collect::<Vec<_>>().join("` and `");
        let wanted = names(&mut family.text().iter().map(|part| part.name));
        let found = names(&mut encoders.iter().map(|encoder| encoder.part.name));
        if wanted != found {
            return Err(Error::InvalidArgument(format!(
                "a checkpoint of {family} has the text encoders `{wanted}`, these are `{found}`"
            )));
        }
        for (encoder, part) in encoders.into_iter().zip(family.text()) {
            file.add_text(encoder, part)?;
        }
        file.add_vae(vae, VAE_PREFIX)?;
        Ok(file)
    }

    /// Each text encoder as a file of its own, by its name.
    ///
    /// # Errors
    /// As loading them.
    pub fn text_encoders(text: &TextSource) -> Result<Vec<(&'static str, Self)>> {
        let each = |encoder: OpenText| {
            let mut file = Self { tensors: Vec::new(), metadata: BTreeMap::new() };
            let (name, config) = (encoder.part.name, alone(&encoder.config));
            file.add_encoder(encoder, config)?;
            Ok((name, file))
        };
        text.open()?.into_iter().map(each).collect()
    }

    /// An autoencoder alone.
    ///
    /// # Errors
    /// As loading it.
    pub fn vae(path: &Path) -> Result<Self> {
        let mut file = Self { tensors: Vec::new(), metadata: BTreeMap::new() };
        file.add_vae(path, "")?;
        Ok(file)
    }

    /// Adds free-form texts.
    pub fn metadata(&mut self, texts: impl IntoIterator<Item = (String, String)>) {
        self.metadata.extend(texts);
    }

    fn add_model(&mut self, model: &ModelSource) -> Result<Family> {
        let open = model.open()?;
        let training = open.family.training(&open.file)?;
        let names: Vec<String> = below(&open.file, UnetConfig::PREFIX).collect();
        let same = |key: &String| (key.clone(), key.clone());
        let reader = OpenMerge::of_file(open.file, open.stored_as, open.patches);
        self.add_same(&Arc::new(reader), names.iter().map(same));
        if open.family.is_sdxl() && training.prediction == Prediction::Velocity {
            self.add_marker("v_pred");
            if training.has_zero_terminal_snr() {
                self.add_marker("ztsnr");
            }
        }
        Ok(open.family)
    }

    fn add_marker(&mut self, name: &str) {
        self.tensors.push(SavedTensor { name: name.into(), dtype: Dtype::F32, shape: vec![0], from: None });
    }

    fn add_vae(&mut self, path: &Path, prefix: &str) -> Result<()> {
        let file = WeightFile::open(path)?;
        let config = VaeConfig::from_header(file.header()).map_err(|reason| Error::Unsupported {
            path: path.into(),
            part: "vae",
            reason,
        })?;
        let parts = ["encoder.", "decoder.", "quant_conv.", "post_quant_conv."];
        let names: Vec<(String, String)> = below(&file, &config.prefix)
            .filter_map(|key| {
                let name = &key[config.prefix.len()..];
                parts
                    .iter()
                    .any(|part| name.starts_with(part))
                    .then(|| (key.clone(), format!("{prefix}{name}")))
            })
            .collect();
        let reader = OpenMerge::of_file(Arc::new(file), None, Default::default());
        self.add_same(&Arc::new(reader), names.into_iter());
        Ok(())
    }

    /// Adds tensors as they are stored, by key and the name to write.
    fn add_same(&mut self, reader: &Arc<OpenMerge>, names: impl Iterator<Item = (String, String)>) {
        for (key, name) in names {
            let Some(info) = reader.file.header().get(&key) else { continue };
            let Some(dtype) = written_as(info.dtype) else { continue };
            let shape = info.shape.clone();
            self.tensors.push(SavedTensor { name, dtype, shape, from: Some((Arc::clone(reader), key)) });
        }
    }

    /// Adds a text encoder where a checkpoint of its family keeps it.
    fn add_text(&mut self, encoder: OpenText, part: &TextPart) -> Result<()> {
        let own = &encoder.config;
        let width = own.projection.map(Projection::width);
        let config = match part.layout {
            ClipLayout::OpenClip => ClipConfig {
                prefix: part.prefixes[0].into(),
                layout: part.layout,
                projection: width.map(Projection::Parameter),
                projection_prefix: part.prefixes[0].into(),
                ..own.clone()
            },
            // Families with such an encoder have no use for its pooled text.
            layout => ClipConfig {
                prefix: part.prefixes[0].into(),
                layout,
                projection: None,
                projection_prefix: String::new(),
                ..own.clone()
            },
        };
        self.add_encoder(encoder, config)
    }

    /// Adds a text encoder in the layout of `config`.
    fn add_encoder(&mut self, encoder: OpenText, config: ClipConfig) -> Result<()> {
        let tensors = text_pieces(&config, &encoder.config);
        let mut reader = OpenMerge::of_file(encoder.file, None, encoder.patches);
        reader.tensors = tensors;
        let reader = Arc::new(reader);
        let mut names: Vec<&String> = reader.tensors.keys().collect();
        names.sort();
        for name in names {
            let Some((stored, shape)) = reader.stored(name) else {
                return Err(Error::MissingTensor { key: name.clone() });
            };
            let Some(dtype) = written_as(stored) else {
                return Err(Error::TensorType { key: name.clone(), found: stored.to_string() });
            };
            let from = Some((Arc::clone(&reader), name.clone()));
            self.tensors.push(SavedTensor { name: name.clone(), dtype, shape, from });
        }
        Ok(())
    }

    /// Bytes of the whole file, short of the table of contents.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(SavedTensor::bytes).sum()
    }

    /// Writes the file; `step` is told how many of how many tensors are done and may end the work.
    ///
    /// # Errors
    /// What reading, writing or `step` gives.
    pub fn write<E: From<Error>>(
        &self,
        path: &Path,
        step: &mut dyn FnMut(u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let io = |source| E::from(Error::Io { path: PathBuf::from(path), source });
        let file = std::fs::File::create(path).map_err(io)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
        out.write_all(&self.header()).map_err(io)?;
        let total = self.tensors.len() as u64;
        for (done, tensor) in (1..).zip(&self.tensors) {
            out.write_all(&tensor.numbers()?).map_err(io)?;
            step(done, total)?;
        }
        out.flush().map_err(io)
    }

    fn header(&self) -> Vec<u8> {
        let mut table = Map::new();
        if !self.metadata.is_empty() {
            table.insert("__metadata__".into(), json!(self.metadata));
        }
        let mut at = 0;
        for tensor in &self.tensors {
            let end = at + tensor.bytes();
            let entry =
                json!({"dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [at, end]});
            table.insert(tensor.name.clone(), entry);
            at = end;
        }
        let mut text = Value::Object(table).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }
}

/// The layout of a text encoder in a file of its own.
fn alone(own: &ClipConfig) -> ClipConfig {
    ClipConfig {
        prefix: "text_model.".into(),
        layout: ClipLayout::HuggingFace,
        projection: own.projection.map(|projection| Projection::Layer(projection.width())),
        projection_prefix: String::new(),
        ..own.clone()
    }
}

/// The keys below a prefix, without the factors of weights in 8 bits.
fn below<'a>(file: &'a WeightFile, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
    let keys = file.header().keys().filter(move |key| key.starts_with(prefix));
    keys.filter(|key| !key.ends_with(".scale_weight") && !key.ends_with(".scale_input")).map(String::from)
}

impl SavedTensor {
    fn numbers(&self) -> Result<Vec<u8>> {
        let Some((reader, key)) = &self.from else { return Ok(Vec::new()) };
        let Some((values, shape)) = reader.value(key)? else {
            return Err(Error::MissingTensor { key: key.clone() });
        };
        if shape != self.shape {
            return Err(Error::TensorShape { key: key.clone(), expected: self.shape.clone(), found: shape });
        }
        let mut bytes = Vec::with_capacity(values.len() * self.dtype.bitsize() / 8);
        for value in values {
            match self.dtype {
                Dtype::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
                Dtype::BF16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
                _ => bytes.extend(value.to_le_bytes()),
            }
        }
        Ok(bytes)
    }
}
