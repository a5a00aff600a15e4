//! Times each operator at the sizes of SD1.5 at 512x512 with two samples, next to what candle does.
//!
//! `cargo run --release -p comfy-kernels --example operators [-- THREADS]`

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use comfy_kernels::{
    Addend, ConvSizes, FusedAttention, FusedGroupNorm, FusedLayerNorm, PackedConv, PackedLinear,
};

fn wave(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("the values are as many as the shape says")
}

/// The median of five runs, after one to warm up.
fn time(what: &str, flops: f64, run: impl Fn() -> Result<Tensor>) -> Result<()> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        run()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let ms = 1e3 * seconds[2];
    let rate = flops / seconds[2] * 1e-9;
    let line = format!("{what:44} {ms:8.1} ms  {rate:7.1} GFLOP/s\n");
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    Ok(())
}

fn main() -> Result<()> {
    let threads = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(candle_core::Error::wrap)?;
    pool.install(all)
}

fn all() -> Result<()> {
    for (inputs, outputs, side) in
        [(320, 320, 64), (640, 640, 32), (1280, 1280, 16), (2560, 1280, 8), (960, 320, 64)]
    {
        let x = wave(&[2, side, side, inputs]).permute((0, 3, 1, 2))?;
        let w = wave(&[outputs, inputs, 3, 3]);
        let w = w.to_dtype(candle_core::DType::F16)?.to_dtype(candle_core::DType::F32)?;
        let layer = PackedConv::new(&w, &wave(&[outputs]), ConvSizes { stride: 1, padding: 1 })?;
        let flops = 2.0 * 9.0 * (inputs * outputs * side * side * 2) as f64;
        time(&format!("conv 3x3 {inputs}->{outputs} at {side}"), flops, || {
            layer.forward(&x, Addend::Nothing)
        })?;
    }
    for (rows, inputs, outputs) in
        [(4096, 320, 320), (4096, 320, 2560), (1024, 640, 640), (256, 1280, 10240), (64, 5120, 1280)]
    {
        let x = wave(&[2, rows, inputs]);
        let w =
            wave(&[outputs, inputs]).to_dtype(candle_core::DType::F16)?.to_dtype(candle_core::DType::F32)?;
        let layer = PackedLinear::new(&w, Some(&wave(&[outputs])))?;
        let flops = 2.0 * (2 * rows * inputs * outputs) as f64;
        time(&format!("linear {inputs}->{outputs} of {rows}"), flops, || layer.forward(&x))?;
        if outputs > 2 * inputs {
            time(&format!("  gated {inputs}->{outputs} of {rows}"), flops, || layer.forward_geglu(&x))?;
        }
    }
    for (rows, keys, channels) in [(4096, 4096, 320), (1024, 1024, 640), (256, 256, 1280), (4096, 77, 320)] {
        let (q, k) = (wave(&[2, rows, channels]), wave(&[2, keys, channels]));
        let op = FusedAttention { heads: 8, causal: false };
        let flops = 4.0 * (2 * rows * keys * channels) as f64;
        time(&format!("attention {rows}x{keys} of {channels}"), flops, || q.apply_op3_no_bwd(&k, &k, &op))?;
    }
    let x = wave(&[2, 64, 64, 320]).permute((0, 3, 1, 2))?;
    let (w, b) = (wave(&[320]), wave(&[320]));
    time("group norm, silu, 320 at 64", 0.0, || {
        FusedGroupNorm { groups: 32, eps: 1e-5, silu: true }.forward(&x, &w, &b)
    })?;
    let x = wave(&[2, 4096, 320]);
    time("layer norm, 320 of 4096", 0.0, || x.apply_op3_no_bwd(&w, &b, &FusedLayerNorm { eps: 1e-5 }))
}
