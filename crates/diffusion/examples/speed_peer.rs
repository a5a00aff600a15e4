//! Runs one network for `benches/cpu.py`: `speed_peer CHECKPOINT unet|vae THREADS`.
//!
//! Answers each line on stdin, `BATCH HEIGHT WIDTH [FILE]` in latent cells, with one line of JSON; FILE gets the
//! result as raw f32.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::sampling::ModelInputs;
use comfy_diffusion::vae::Vae;
use comfy_diffusion::{DiffusionModel, load_model, load_vae};

type Error = Box<dyn std::error::Error>;

enum Part {
    Unet(Box<DiffusionModel>),
    Vae(Vae),
}

impl Part {
    fn load(path: &Path, name: &str) -> Result<Self, Error> {
        match name {
            "unet" => Ok(Self::Unet(Box::new(load_model(path, &Device::Cpu, DType::F32, &[])?))),
            "vae" => Ok(Self::Vae(load_vae(path, &Device::Cpu, DType::F32)?)),
            other => Err(format!("unknown part `{other}`, expected `unet` or `vae`").into()),
        }
    }

    fn run(&self, [batch, height, width]: [usize; 3]) -> Result<Tensor, Error> {
        let x = wave(&[batch, 4, height, width], 0.1)?;
        Ok(match self {
            Self::Unet(model) => {
                let inputs = ModelInputs::text(wave(&[batch, 77, 768], 0.7)?);
                model.forward(&x, &Tensor::full(500f32, batch, &Device::Cpu)?, &inputs)?
            }
            Self::Vae(vae) => vae.decode(&x)?,
        })
    }
}

/// The same values as the `wave` of `benches/inputs.py`.
fn wave(shape: &[usize], phase: f64) -> Result<Tensor, Error> {
    let count = shape.iter().product::<usize>();
    let value = |i: usize| (1.4 * (0.37 * i as f64 + phase).sin() * (0.0113 * i as f64).cos()) as f32;
    Ok(Tensor::from_vec((0..count).map(value).collect(), shape, &Device::Cpu)?)
}

/// Largest memory that the process has held so far, in bytes.
fn peak() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in the status")?;
    Ok(1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>()?)
}

/// Processor time of all threads so far, in seconds; the kernel counts it in hundredths.
fn cpu() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = status.rsplit_once(')').ok_or("no name in the status")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

fn answer(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, part, threads] = arguments.as_slice() else {
        return Err("usage: speed_peer CHECKPOINT unet|vae THREADS".into());
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let part = Part::load(Path::new(path), part)?;
    answer(&format!("{{\"loaded\": true, \"peak\": {}}}", peak()?))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [batch, height, width, file @ ..] = words.as_slice() else {
            return Err(format!("cannot read `{line}`").into());
        };
        let (started, before) = (Instant::now(), cpu()?);
        let y = part.run([batch.parse()?, height.parse()?, width.parse()?])?;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu()? - before);
        if let [file] = file {
            let values = y.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(file, bytes)?;
        }
        answer(&format!("{{\"seconds\": {seconds}, \"cpu\": {cpu}, \"peak\": {}}}", peak()?))?;
    }
    Ok(())
}
