//! Fused f32 operators for the CPU.
//!
//! Candle's own operators run elementwise work on one thread, reorder convolution weights on every call and hold all
//! attention scores at once; these do not. On other devices and in other types the layers fall back to candle.

mod attention;
mod conv;
mod elementwise;
mod gemm;
mod linear;
mod norm;

pub(super) use attention::FusedAttention;
pub(super) use conv::FusedConv2d;
pub(super) use elementwise::Geglu;
pub(super) use linear::FusedLinear;
pub(super) use norm::FusedGroupNorm;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};

/// True if the operators of this module can take `x`.
pub(super) fn takes(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

/// The values of a tensor from its first one on, in whatever order its strides say.
fn strided<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[layout.start_offset()..])
}

/// The values of a tensor that must be contiguous.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => {
            candle_core::bail!("the operator takes contiguous tensors, got strides {:?}", layout.stride())
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{FusedAttention, FusedConv2d, FusedGroupNorm, FusedLinear, Geglu};

    fn wave(shape: &[usize], phase: f32) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Compares with a reference that candle's own operators give, in f64 where they can.
    fn check(what: &str, found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let difference =
            (found.to_dtype(DType::F64).unwrap() - expected.to_dtype(DType::F64).unwrap()).unwrap();
        let worst = difference.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(worst < 2e-5, "{what}: {worst}");
    }

    fn f64(x: &Tensor) -> Tensor {
        x.to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn convolutions() {
        for (kernel, stride, padding) in
            [(1, 1, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (3, 1, 0), (5, 3, 2), (1, 2, 0)]
        {
            for (height, width) in [(8, 8), (7, 9), (5, 6), (130, 33)] {
                let (x, w) = (wave(&[2, 3, height, width], 0.1), wave(&[4, 3, kernel, kernel], 0.2));
                let b = wave(&[4], 0.3);
                let found = x.apply_op3_no_bwd(&w, &b, &FusedConv2d { stride, padding }).unwrap();
                let expected = f64(&x).conv2d(&f64(&w), padding, stride, 1, 1).unwrap();
                let expected = expected.broadcast_add(&f64(&b).reshape((1, 4, 1, 1)).unwrap()).unwrap();
                check(&format!("{kernel} {stride} {padding} {height}x{width}"), &found, &expected);
            }
        }
        // Larger than one tile.
        let (x, w, b) = (wave(&[1, 64, 96, 80], 0.1), wave(&[2, 64, 3, 3], 0.2), wave(&[2], 0.3));
        let found = x.apply_op3_no_bwd(&w, &b, &FusedConv2d { stride: 1, padding: 1 }).unwrap();
        let expected = f64(&x).conv2d(&f64(&w), 1, 1, 1, 1).unwrap();
        check("tiles", &found, &expected.broadcast_add(&f64(&b).reshape((1, 2, 1, 1)).unwrap()).unwrap());
        let small = wave(&[1, 3, 2, 2], 0.0);
        let weight = wave(&[4, 3, 5, 5], 0.0);
        assert!(
            small
                .apply_op3_no_bwd(&weight, &wave(&[4], 0.0), &FusedConv2d { stride: 1, padding: 0 })
                .is_err()
        );
    }

    #[test]
    fn attention_heads_masks_and_strides() {
        for (queries, keys, causal) in
            [(5, 5, true), (77, 77, true), (300, 77, false), (1, 1, false), (33, 700, false)]
        {
            let (heads, width) = (3, 8);
            let part = |rows, phase| wave(&[2, rows, heads * width], phase);
            let (q, k) = (part(queries, 0.1), part(keys, 0.7));
            let v = wave(&[2, heads * width, keys], 1.3).transpose(1, 2).unwrap();
            let found = q.apply_op3_no_bwd(&k, &v, &FusedAttention { heads, causal }).unwrap();
            let split = |x: &Tensor, rows| {
                f64(x)
                    .reshape((2, rows, heads, width))
                    .unwrap()
                    .transpose(1, 2)
                    .unwrap()
                    .contiguous()
                    .unwrap()
            };
            let (q, k, v) = (split(&q, queries), split(&k, keys), split(&v.contiguous().unwrap(), keys));
            let scores = (q.matmul(&k.t().unwrap()).unwrap() / (width as f64).sqrt()).unwrap();
            let hidden = |i: usize| if causal && i % keys > i / keys { f64::NEG_INFINITY } else { 0.0 };
            let mask: Vec<f64> = (0..queries * keys).map(hidden).collect();
            let mask = Tensor::from_vec(mask, (queries, keys), &Device::Cpu).unwrap();
            let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask).unwrap(), 3).unwrap();
            let expected = weights.matmul(&v).unwrap().transpose(1, 2).unwrap();
            let expected = expected.reshape((2, queries, heads * width)).unwrap();
            check(&format!("{queries} {keys} {causal}"), &found, &expected);
        }
    }

    #[test]
    fn normalisation_gate_and_linear() {
        let (x, w, b) = (wave(&[2, 64, 5, 7], 0.1), wave(&[64], 0.2), wave(&[64], 0.3));
        let (x64, w64, b64) = (f64(&x), f64(&w), f64(&b));
        let norm = candle_nn::GroupNorm::new(w64, b64, 64, 32, 1e-6).unwrap();
        let expected = candle_nn::Module::forward(&norm, &x64).unwrap();
        for silu in [false, true] {
            let op = FusedGroupNorm { groups: 32, eps: 1e-6, silu };
            let expected = if silu { expected.silu().unwrap() } else { expected.clone() };
            check("group norm", &x.apply_op3_no_bwd(&w, &b, &op).unwrap(), &expected);
        }
        let x = (wave(&[2, 3, 10], 0.1) * 3.0).unwrap();
        let halves = f64(&x).chunk(2, 2).unwrap();
        let expected = (&halves[0] * halves[1].contiguous().unwrap().gelu_erf().unwrap()).unwrap();
        check("geglu", &x.apply_op1_no_bwd(&Geglu).unwrap(), &expected);
        let (x, w, b) = (wave(&[2, 6, 5], 0.1), wave(&[4, 6], 0.2), wave(&[4], 0.3));
        let x = x.transpose(1, 2).unwrap();
        let expected = f64(&x).contiguous().unwrap().broadcast_matmul(&f64(&w).t().unwrap()).unwrap();
        let expected = expected.broadcast_add(&f64(&b)).unwrap();
        check("linear, strided", &x.apply_op3_no_bwd(&w, &b, &FusedLinear).unwrap(), &expected);
        check("linear", &x.contiguous().unwrap().apply_op3_no_bwd(&w, &b, &FusedLinear).unwrap(), &expected);
    }
}
