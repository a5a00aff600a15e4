//! What the nodes of the sampler stage share: device, models and their files.

use crate::config::{Config, DeviceKind};
use crate::error;
use crate::model_cache::{Loaded, ModelCache, PartKey};
use crate::model_files::{FoundFile, LORAS, ModelFiles};
use crate::recipe::{LoraUse, Part, Recipe, WeightDtype};
use candle_core::{DType, Device};
use comfy_diffusion::adapters::{Adapter, UsedAdapter};
use comfy_diffusion::text::ClipTextEncoder;
use comfy_diffusion::upscale::Upscaler;
use comfy_diffusion::vae::Vae;
use comfy_diffusion::{DiffusionModel, load_clip, load_model_stored_as, load_vae};
use comfy_graph::{ComboOption, ErrorCode};
use comfy_proto::stage::ModelFile;
use comfy_stage::{NodeError, StageState};
use std::collections::BTreeMap;
use std::sync::Arc;

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
        Ok(Self { device, dtype, fingerprint, files: ModelFiles::new(config), cache })
    }

    fn load(&self, recipe: &Recipe) -> Result<Loaded, NodeError> {
        let found = self.find_unchanged(&recipe.folder, &recipe.file, &recipe.fingerprint)?;
        let key = PartKey {
            path: found.path.clone(),
            fingerprint: found.fingerprint.clone(),
            part: recipe.part,
            loras: recipe.loras.clone(),
            weight_dtype: recipe.weight_dtype,
        };
        // Text encoders and autoencoders are small next to the model and lose the most from short numbers.
        self.cache.get(key, || {
            let path = &found.path;
            let adapters = self.adapters(&recipe.loras)?;
            match recipe.part {
                Part::Model => {
                    let stored = recipe.weight_dtype.map(WeightDtype::format);
                    load_model_stored_as(path, &self.device, self.dtype, &adapters, stored)
                        .map(Arc::new)
                        .map(Loaded::Model)
                }
                Part::Clip => {
                    load_clip(path, &self.device, DType::F32, &adapters).map(Arc::new).map(Loaded::Clip)
                }
                Part::Upscaler => {
                    Upscaler::load(path, &self.device, DType::F32).map(Arc::new).map(Loaded::Upscaler)
                }
                Part::Vae => load_vae(path, &self.device, DType::F32).map(Arc::new).map(Loaded::Vae),
            }
            .map_err(error::engine)
        })
    }

    /// Finds a file that must still be the one a recipe was made from.
    fn find_unchanged(&self, folder: &str, file: &str, fingerprint: &str) -> Result<FoundFile, NodeError> {
        let found = self.files.find(folder, file, &|| Ok(()))?;
        if found.fingerprint == fingerprint {
            return Ok(found);
        }
        let message = format!("`{file}` was replaced while this job was waiting, run it again");
        Err(NodeError::new(ErrorCode::FailedPrecondition, message))
    }

    fn adapters(&self, loras: &[LoraUse]) -> Result<Vec<UsedAdapter>, NodeError> {
        let open = |lora: &LoraUse| {
            let found = self.find_unchanged(LORAS, &lora.file, &lora.fingerprint)?;
            let adapter = Adapter::open(&found.path).map(Arc::new).map_err(error::engine)?;
            Ok(UsedAdapter { adapter, strength: lora.strength })
        };
        loras.iter().map(open).collect()
    }

    pub(crate) fn model(&self, link: &serde_json::Value) -> Result<Arc<DiffusionModel>, NodeError> {
        match self.load(&Recipe::read(link, Part::Model)?)? {
            Loaded::Model(model) => Ok(model),
            _ => Err(NodeError::internal("the model cache holds another part under this key")),
        }
    }

    /// The text encoder and where it stops.
    pub(crate) fn clip(
        &self,
        link: &serde_json::Value,
    ) -> Result<(Arc<ClipTextEncoder>, Option<i64>), NodeError> {
        let recipe = Recipe::read(link, Part::Clip)?;
        match self.load(&recipe)? {
            Loaded::Clip(clip) => Ok((clip, recipe.clip_skip)),
            _ => Err(NodeError::internal("the model cache holds another part under this key")),
        }
    }

    pub(crate) fn vae(&self, link: &serde_json::Value) -> Result<Arc<Vae>, NodeError> {
        match self.load(&Recipe::read(link, Part::Vae)?)? {
            Loaded::Vae(vae) => Ok(vae),
            _ => Err(NodeError::internal("the model cache holds another part under this key")),
        }
    }

    pub(crate) fn upscaler(&self, link: &serde_json::Value) -> Result<Arc<Upscaler>, NodeError> {
        match self.load(&Recipe::read(link, Part::Upscaler)?)? {
            Loaded::Upscaler(upscaler) => Ok(upscaler),
            _ => Err(NodeError::internal("the model cache holds another part under this key")),
        }
    }
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

    fn free_memory(&self) -> u64 {
        self.cache.clear()
    }
}
