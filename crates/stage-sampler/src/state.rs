//! What the nodes of the sampler stage share: device, models and their files.

use crate::config::{Config, DeviceKind};
use crate::control::ControlRecipe;
use crate::error;
use crate::model_cache::{Loaded, ModelCache, PartKey};
use crate::model_files::{FoundFile, ModelFiles, TINY_VAES};
use crate::model_folders::{CONTROLNETS, HYPERNETWORKS, LORAS, TEXT_ENCODERS, VAE_APPROX};
use crate::recipe::{LoraUse, Part, Recipe, WeightChange, WeightDtype};
use candle_core::{DType, Device};
use comfy_artifacts::{Folders, Saves};
use comfy_diffusion::adapters::{Adapter, UsedAdapter};
use comfy_diffusion::changes::{Change, Merge, ModelSource, TextFiles, TextSource};
use comfy_diffusion::checkpoint::CheckpointHeader;
use comfy_diffusion::control::{ControlKind, ControlNetwork};
use comfy_diffusion::text::ClipTextEncoder;
use comfy_diffusion::upscale::Upscaler;
use comfy_diffusion::vae::{LatentRange, Vae};
use comfy_diffusion::vision::{ClipVision, StyleModel};
use comfy_diffusion::{
    DiffusionModel, Gligen, Hypernetwork, UsedHypernetwork, load_clip_from, load_model_from, load_vae,
};
use comfy_graph::{ComboOption, ErrorCode};
use comfy_proto::stage::ModelFile;
use comfy_stage::{NodeError, StageState};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Raised whenever the engine gives other numbers for the same inputs.
const ENGINE_VERSION: u32 = 1;

/// The shared state of the sampler stage.
#[derive(Debug)]
pub struct SamplerState {
    pub(crate) device: Device,
    dtype: DType,
    fingerprint: String,
    pub(crate) files: ModelFiles,
    cache: ModelCache,
    output_dir: PathBuf,
    artifacts_root: PathBuf,
    // Opened by the first node that saves: most deployments never save a model.
    saves: OnceLock<Saves>,
}

impl SamplerState {
    /// Prepares the device; models are loaded when they are first used.
    ///
    /// # Errors
    /// When the device is not available. There is no silent fall-back to the CPU.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let device = match config.device {
            DeviceKind::Cpu => Device::Cpu,
            DeviceKind::Cuda => anyhow::bail!(
                "`TORCH_DEVICE=cuda` needs a build with CUDA support, which this is not; valid here: `cpu`"
            ),
        };
        let dtype = config.dtype.dtype();
        let fingerprint = format!("engine{ENGINE_VERSION}/{}/{}", config.device, dtype.as_str());
        let cache = ModelCache::new(config.model_cache_bytes);
        Ok(Self {
            device,
            dtype,
            fingerprint,
            files: ModelFiles::new(config),
            cache,
            output_dir: config.output_dir.clone(),
            artifacts_root: config.artifacts_root.clone(),
            saves: OnceLock::new(),
        })
    }

    /// Where models are saved.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub(crate) fn saves(&self) -> Result<&Saves, NodeError> {
        if let Some(saves) = self.saves.get() {
            return Ok(saves);
        }
        // This stage neither loads pictures nor shows any, so the output folder stands for all three.
        let folders = Folders::open(&self.output_dir, &self.output_dir, &self.output_dir)?;
        let opened = Saves::open(folders, &self.artifacts_root)?;
        Ok(self.saves.get_or_init(|| opened))
    }

    /// The file of a VAE link.
    ///
    /// # Errors
    /// When it is gone or was replaced.
    pub(crate) fn vae_file(&self, recipe: &Recipe) -> Result<PathBuf, NodeError> {
        if recipe.folder == VAE_APPROX {
            let message = format!("`{}` is made of two files, which cannot be saved as one", recipe.file);
            return Err(NodeError::invalid(message));
        }
        Ok(self.find_unchanged(&recipe.folder, &recipe.file, &recipe.fingerprint)?.path)
    }

    fn load(&self, recipe: &Recipe) -> Result<Loaded, NodeError> {
        if recipe.folder == VAE_APPROX {
            return self.load_tiny_vae(recipe);
        }
        let found = self.find_unchanged(&recipe.folder, &recipe.file, &recipe.fingerprint)?;
        let key = PartKey { path: found.path.clone(), recipe: recipe.of_weights(), base: None };
        // Text encoders and autoencoders are small next to the model and lose the most from short numbers.
        self.cache.get(key, || {
            let path = &found.path;
            match recipe.part {
                Part::Model => {
                    let source = self.model_source(recipe)?;
                    load_model_from(&source, &self.device, self.dtype).map(Arc::new).map(Loaded::Model)
                }
                Part::Clip => {
                    let source = self.text_source(recipe)?;
                    load_clip_from(&source, &self.device, DType::F32).map(Arc::new).map(Loaded::Clip)
                }
                Part::Upscaler => {
                    Upscaler::load(path, &self.device, DType::F32).map(Arc::new).map(Loaded::Upscaler)
                }
                Part::Hypernetwork => {
                    Hypernetwork::load(path, &self.device, self.dtype).map(Arc::new).map(Loaded::Hypernetwork)
                }
                Part::Gligen => {
                    Gligen::load(path, &self.device, self.dtype).map(Arc::new).map(Loaded::Gligen)
                }
                Part::Control => return Err(NodeError::invalid("a control network is loaded with a model")),
                Part::ClipVision => {
                    ClipVision::load(path, &self.device, DType::F32).map(Arc::new).map(Loaded::ClipVision)
                }
                Part::StyleModel => {
                    StyleModel::load(path, &self.device, DType::F32).map(Arc::new).map(Loaded::StyleModel)
                }
                Part::Vae => load_vae(path, &self.device, DType::F32).map(Arc::new).map(Loaded::Vae),
            }
            .map_err(error::engine)
        })
    }

    /// Loads an autoencoder whose halves are two files.
    fn load_tiny_vae(&self, recipe: &Recipe) -> Result<Loaded, NodeError> {
        let name = &recipe.file;
        let (_, scale) = TINY_VAES.into_iter().find(|(tiny, _)| tiny == name).ok_or_else(|| {
            let valid = TINY_VAES.map(|(tiny, _)| format!("`{tiny}`")).join(", ");
            NodeError::invalid(format!("`{name}` is no small autoencoder, valid: {valid}"))
        })?;
        let ([encoder, decoder], fingerprint) = self.files.find_tiny_vae(name, &|| Ok(()))?;
        if fingerprint != recipe.fingerprint {
            return Err(replaced(name));
        }
        let key = PartKey { path: decoder.path.clone(), recipe: recipe.of_weights(), base: None };
        self.cache.get(key, || {
            let range = LatentRange { scale, shift: 0.0 };
            Vae::load_tiny([&encoder.path, &decoder.path], &self.device, DType::F32, range)
                .map(|vae| Loaded::Vae(Arc::new(vae)))
                .map_err(error::engine)
        })
    }

    /// Finds a file that must still be the one a recipe was made from.
    fn find_unchanged(&self, folder: &str, file: &str, fingerprint: &str) -> Result<FoundFile, NodeError> {
        let found = self.files.find(folder, file, &|| Ok(()))?;
        if found.fingerprint == fingerprint {
            return Ok(found);
        }
        Err(replaced(file))
    }

    /// Where the weights of a MODEL link come from.
    ///
    /// # Errors
    /// When a file is gone or was replaced, or an adapter cannot be read.
    pub(crate) fn model_source(&self, recipe: &Recipe) -> Result<ModelSource, NodeError> {
        let path = self.find_unchanged(&recipe.folder, &recipe.file, &recipe.fingerprint)?.path;
        let stored_as = recipe.weight_dtype.map(WeightDtype::format);
        let changes = self.changes(&recipe.changes, &|other| self.model_source(other))?;
        Ok(ModelSource { path, stored_as, changes })
    }

    /// Where the weights of a CLIP link come from.
    ///
    /// # Errors
    /// As [`SamplerState::model_source`].
    pub(crate) fn text_source(&self, recipe: &Recipe) -> Result<TextSource, NodeError> {
        let path = self.find_unchanged(&recipe.folder, &recipe.file, &recipe.fingerprint)?.path;
        let files = if recipe.folder == TEXT_ENCODERS {
            let mut paths = vec![path];
            if let Some(also) = &recipe.also {
                paths.push(self.find_unchanged(&recipe.folder, &also.file, &also.fingerprint)?.path);
            }
            TextFiles::Encoders(paths)
        } else {
            TextFiles::Checkpoint(path)
        };
        let changes = self.changes(&recipe.changes, &|other| self.text_source(other))?;
        Ok(TextSource { files, changes })
    }

    fn changes<S>(
        &self,
        changes: &[WeightChange],
        open: &dyn Fn(&Recipe) -> Result<S, NodeError>,
    ) -> Result<Vec<Change<S>>, NodeError> {
        let change = |change: &WeightChange| match change {
            WeightChange::Lora(lora) => {
                let found = self.find_unchanged(LORAS, &lora.file, &lora.fingerprint)?;
                let adapter = Adapter::open(&found.path).map(Arc::new).map_err(error::engine)?;
                Ok(Change::Adapter(UsedAdapter { adapter, strength: lora.strength }))
            }
            WeightChange::Merge(merge) => Ok(Change::Merge(Merge {
                other: Box::new(open(&merge.merge)?),
                shares: merge.shares(),
                by_prefix: merge.shares_by_prefix(),
            })),
            WeightChange::Attention(attention) => Ok(Change::Attention(attention.factors())),
        };
        changes.iter().map(change).collect()
    }

    pub(crate) fn model(&self, link: &serde_json::Value) -> Result<Arc<DiffusionModel>, NodeError> {
        self.load(&Recipe::read(link, Part::Model)?)?.try_into()
    }

    /// The text encoder and where it stops.
    pub(crate) fn clip(
        &self,
        link: &serde_json::Value,
    ) -> Result<(Arc<ClipTextEncoder>, Option<i64>), NodeError> {
        let recipe = Recipe::read(link, Part::Clip)?;
        Ok((self.load(&recipe)?.try_into()?, recipe.clip_skip))
    }

    pub(crate) fn vae(&self, link: &serde_json::Value) -> Result<Arc<Vae>, NodeError> {
        self.load(&Recipe::read(link, Part::Vae)?)?.try_into()
    }

    /// Loads a hypernetwork that a MODEL link names.
    pub(crate) fn hypernetwork(&self, used: &LoraUse) -> Result<UsedHypernetwork, NodeError> {
        let fingerprint = used.fingerprint.clone();
        let recipe = Recipe::new(HYPERNETWORKS, &used.file, fingerprint, Part::Hypernetwork);
        Ok(UsedHypernetwork { network: self.load(&recipe)?.try_into()?, strength: used.strength })
    }

    /// A control network to steer the model of a recipe with.
    pub(crate) fn control_network(
        &self,
        recipe: &ControlRecipe,
        model: &Recipe,
    ) -> Result<Arc<ControlNetwork>, NodeError> {
        let name = &recipe.control_net;
        let found = self.find_unchanged(CONTROLNETS, name, &recipe.fingerprint)?;
        let header = CheckpointHeader::read(&found.path).map_err(error::engine)?;
        let unusable = |reason: String| NodeError::invalid(format!("`{name}` cannot be used: {reason}"));
        let base = match ControlNetwork::kind(&header).map_err(unusable)? {
            ControlKind::Network | ControlKind::Adapter => None,
            ControlKind::LowRank => Some(model),
            ControlKind::Difference => Some(recipe.base.as_ref().ok_or_else(|| {
                unusable(
                    "it holds the differences to a model, so `DiffControlNetLoader` is to load it".into(),
                )
            })?),
        };
        let key = PartKey {
            path: found.path.clone(),
            recipe: Recipe::new(CONTROLNETS, name, found.fingerprint, Part::Control),
            base: base.map(Recipe::of_weights),
        };
        let loaded = self.cache.get(key, || {
            let source = base.map(|base| self.model_source(base)).transpose()?;
            ControlNetwork::load(&found.path, &self.device, self.dtype, source.as_ref())
                .map(Arc::new)
                .map(Loaded::Control)
                .map_err(error::engine)
        })?;
        loaded.try_into()
    }

    pub(crate) fn gligen(&self, link: &serde_json::Value) -> Result<Arc<Gligen>, NodeError> {
        self.load(&Recipe::read(link, Part::Gligen)?)?.try_into()
    }

    pub(crate) fn upscaler(&self, link: &serde_json::Value) -> Result<Arc<Upscaler>, NodeError> {
        self.load(&Recipe::read(link, Part::Upscaler)?)?.try_into()
    }

    pub(crate) fn clip_vision(&self, link: &serde_json::Value) -> Result<Arc<ClipVision>, NodeError> {
        self.load(&Recipe::read(link, Part::ClipVision)?)?.try_into()
    }

    pub(crate) fn style_model(&self, link: &serde_json::Value) -> Result<Arc<StyleModel>, NodeError> {
        self.load(&Recipe::read(link, Part::StyleModel)?)?.try_into()
    }
}

fn replaced(file: &str) -> NodeError {
    let message = format!("`{file}` was replaced while this job was waiting, run it again");
    NodeError::new(ErrorCode::FailedPrecondition, message)
}

impl StageState for SamplerState {
    fn name(&self) -> &str {
        "stage-sampler"
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn options(&self, folder: &str) -> Option<Vec<ComboOption>> {
        self.files.options(folder)
    }

    fn models(&self, folder: &str) -> Vec<ModelFile> {
        self.files.describe(folder)
    }

    fn model_metadata(&self, folder: &str, name: &str) -> Result<BTreeMap<String, String>, NodeError> {
        self.files.metadata(folder, name)
    }

    fn model_cover(&self, folder: &str, name: &str) -> Option<Vec<u8>> {
        self.files.cover(folder, name)
    }

    fn free_memory(&self) -> u64 {
        self.cache.clear()
    }
}
