//! Networks that enlarge pictures: the ESRGAN line, its compact successor, and SwinIR.

mod compact;
mod esrgan;
mod swinir;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::changes::Patches;
use crate::checkpoint::{CheckpointHeader, LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};
use compact::Compact;
use esrgan::Esrgan;
use swinir::SwinIr;

/// What training tools wrap their weights in.
const WRAPPERS: [&str; 5] = ["", "params_ema.", "params.", "state_dict.", "module."];

#[derive(Debug)]
enum Network {
    Esrgan(Esrgan),
    Compact(Compact),
    SwinIr(Box<SwinIr>),
}

/// A loaded upscaler.
#[derive(Debug)]
pub struct Upscaler {
    network: Network,
    weight_bytes: u64,
    device: Device,
    dtype: DType,
}

impl Upscaler {
    /// Loads an upscaler; architecture, depth, width and factor are read from tensor names and shapes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file is none of the known architectures; otherwise what reading it gives.
    pub fn load(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason| Error::Unsupported { path: path.into(), part: "upscaler", reason };
        let (prefix, kind) = detect(file.header()).map_err(refused)?;
        let (target, counter) =
            (Target { device: device.clone(), dtype, patches: Patches::default() }, LoadCounter::default());
        let weights = Weights::new(&file, &target, &counter, prefix);
        let network = match kind {
            Kind::Esrgan(layout) => Network::Esrgan(Esrgan::load(&weights, &layout)?),
            Kind::Compact(layout) => Network::Compact(Compact::load(&weights, layout)?),
            Kind::SwinIr(layout) => Network::SwinIr(Box::new(SwinIr::load(&weights, layout)?)),
        };
        Ok(Self { network, weight_bytes: counter.bytes(), device: device.clone(), dtype })
    }

    /// Why a file with this header is no upscaler, or `None` if it is one.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        detect(header).err()
    }

    /// How many times larger both sides become.
    pub fn factor(&self) -> usize {
        match &self.network {
            Network::Esrgan(network) => network.factor(),
            Network::Compact(network) => network.factor(),
            Network::SwinIr(network) => network.factor(),
        }
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The device that pictures must be on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Channels of the widest feature map at the size of the result.
    pub fn channels(&self) -> usize {
        match &self.network {
            Network::Esrgan(network) => network.width(),
            Network::Compact(network) => network.width(),
            Network::SwinIr(network) => network.width(),
        }
    }

    /// Enlarges pictures as a whole.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` in 0..=1 to `[B, 3, factor H, factor W]` in f32, not clamped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let &[b, 3, h, w] = pictures.dims() else {
            let dims = pictures.dims();
            return Err(Error::InvalidArgument(format!("an upscaler takes [B, 3, H, W], got {dims:?}")));
        };
        if b == 0 || h == 0 || w == 0 {
            return Err(Error::InvalidArgument("there is no picture to enlarge".into()));
        }
        let x = pictures.to_dtype(self.dtype)?;
        let y = match &self.network {
            Network::Esrgan(network) => network.forward(&x)?,
            Network::Compact(network) => network.forward(&x)?,
            Network::SwinIr(network) => network.forward(&x)?,
        };
        Ok(y.to_dtype(DType::F32)?)
    }
}

enum Kind {
    Esrgan(esrgan::Layout),
    Compact(compact::Layout),
    SwinIr(swinir::Layout),
}

fn detect(header: &CheckpointHeader) -> Result<(&'static str, Kind), String> {
    for prefix in WRAPPERS {
        let shape = |name: &str| header.shape(&format!("{prefix}{name}"));
        if let Some(layout) = esrgan::Layout::detect(&shape)? {
            return Ok((prefix, Kind::Esrgan(layout)));
        }
        if let Some(layout) = compact::Layout::detect(&shape)? {
            return Ok((prefix, Kind::Compact(layout)));
        }
        if let Some(layout) = swinir::Layout::detect(&shape)? {
            return Ok((prefix, Kind::SwinIr(layout)));
        }
    }
    Err("its layers are not those of ESRGAN, Real-ESRGAN, BSRGAN, Compact or SwinIR".into())
}

/// Fills sides up to a multiple of `step` by mirroring the picture at its far border.
fn mirror(picture: &Tensor, step: usize) -> Result<Tensor> {
    let mut x = picture.clone();
    for dim in [2, 3] {
        let size = x.dim(dim)?;
        // Mirrored without repeating the border, back and forth where the picture is too small for one way.
        let turn = (2 * size).saturating_sub(2).max(1);
        let place = |i: usize| (i % turn).min(turn - i % turn) as u32;
        let index: Vec<u32> = (0..size.next_multiple_of(step)).map(place).collect();
        if index.len() > size {
            x = x.contiguous()?.index_select(&Tensor::new(index, x.device())?, dim)?;
        }
    }
    Ok(x)
}
