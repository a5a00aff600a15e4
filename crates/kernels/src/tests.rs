//! Every operator against candle's own in f64, for shapes drawn at random.

use candle_core::{DType, Device, Result, Tensor};
use proptest::prelude::*;
use pulp::Arch;

use crate::{
    Addend, ConvSizes, FusedAttention, FusedGroupNorm, FusedLayerNorm, Geglu, PackedConv, PackedLinear,
    cat_channels, upsample_nearest,
};

/// The machine's vectors, and single values as on a machine that has none.
const ARCHS: [fn() -> Arch; 2] = [Arch::new, || Arch::Scalar];

fn wave(shape: &[usize], phase: f32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Values that f16 holds exactly.
fn short(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F16).unwrap().to_dtype(DType::F32).unwrap()
}

fn long(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

/// The same values with the channels innermost in memory.
fn innermost(x: &Tensor) -> Tensor {
    x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().permute((0, 3, 1, 2)).unwrap()
}

/// Differences are relative to the largest value, as rounding errors of sums are.
fn check(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let largest =
        |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    let worst = largest(&(long(found) - long(expected)).unwrap());
    let size = largest(&long(expected)).max(1.0);
    assert!(worst <= tolerance * size, "{what}: {worst} of {size}");
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn convolve(x: &Tensor, w: &Tensor, b: &Tensor, sizes: ConvSizes) -> Result<Tensor> {
    let y = long(x).contiguous()?.conv2d(&long(w), sizes.padding, sizes.stride, 1, 1)?;
    y.broadcast_add(&long(b).reshape((1, (), 1, 1))?)
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
    let (batch, queries, channels) = q.dims3()?;
    let keys = k.dim(1)?;
    let split = |x: &Tensor, rows| {
        long(x).contiguous()?.reshape((batch, rows, heads, channels / heads))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (split(q, queries)?, split(k, keys)?, split(v, keys)?);
    let scores = (q.matmul(&k.t()?)? / ((channels / heads) as f64).sqrt())?;
    let hidden = |i: usize| if causal && i % keys > i / keys { f64::NEG_INFINITY } else { 0.0 };
    let mask = Tensor::from_vec((0..queries * keys).map(hidden).collect(), (queries, keys), &Device::Cpu)?;
    let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, 3)?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((batch, queries, channels))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolutions(
        batch in 1usize..3, inputs in 1usize..40, outputs in 1usize..50, height in 1usize..15, width in 1usize..15,
        kernel in prop::sample::select(vec![1usize, 3, 5]), stride in 1usize..3, padding in 0usize..3,
        exact in any::<bool>(), last in any::<bool>(),
    ) {
        prop_assume!(height + 2 * padding >= kernel && width + 2 * padding >= kernel);
        // The sizes of most layers, every second time.
        let (kernel, stride, padding) = if exact { (3, 1, 1) } else { (kernel, stride, padding) };
        let (x, b) = (wave(&[batch, inputs, height, width], 0.1), wave(&[outputs], 0.3));
        let x = if last { innermost(&x) } else { x };
        let w = wave(&[outputs, inputs, kernel, kernel], 0.2);
        let w = if exact { short(&w) } else { w };
        let sizes = ConvSizes { stride, padding };
        let expected = convolve(&x, &w, &b, sizes).unwrap();
        let map = wave(expected.dims(), 0.4);
        let channels = wave(&[batch, outputs], 0.5);
        for arch in ARCHS {
            let layer = PackedConv::with_arch(arch(), &w, &b, sizes).unwrap();
            check("plain", &layer.forward(&x, Addend::Nothing).unwrap(), &expected, 1e-5);
            let sum = (&expected + long(&map)).unwrap();
            check("with a map", &layer.forward(&x, Addend::Map(&map)).unwrap(), &sum, 1e-5);
            let sum = expected.broadcast_add(&long(&channels).unsqueeze(2).unwrap().unsqueeze(3).unwrap()).unwrap();
            check("with channels", &layer.forward(&x, Addend::Channels(&channels)).unwrap(), &sum, 1e-5);
        }
    }

    #[test]
    fn linear_layers(
        batch in 1usize..3, rows in 1usize..60, inputs in 1usize..300, outputs in 1usize..80,
        exact in any::<bool>(), turned in any::<bool>(), biased in any::<bool>(),
    ) {
        let (w, b) = (wave(&[outputs, inputs], 0.2), wave(&[outputs], 0.3));
        let w = if exact { short(&w) } else { w };
        let x = if turned {
            wave(&[batch, inputs, rows], 0.1).transpose(1, 2).unwrap()
        } else {
            wave(&[batch, rows, inputs], 0.1)
        };
        let more = wave(&[batch, rows, outputs], 0.6);
        let bias = biased.then_some(&b);
        let mut expected = long(&x).contiguous().unwrap().broadcast_matmul(&long(&w).t().unwrap()).unwrap();
        if biased {
            expected = expected.broadcast_add(&long(&b)).unwrap();
        }
        for arch in ARCHS {
            let layer = PackedLinear::with_arch(arch(), &w, bias).unwrap();
            check("plain", &layer.forward(&x).unwrap(), &expected, 1e-5);
            let sum = (&expected + long(&more)).unwrap();
            check("with more", &layer.forward_add(&x, &more).unwrap(), &sum, 1e-5);
            if outputs.is_multiple_of(2) {
                let halves = expected.chunk(2, 2).unwrap();
                let gated = (&halves[0] * halves[1].contiguous().unwrap().gelu_erf().unwrap()).unwrap();
                check("gated", &layer.forward_geglu(&x).unwrap(), &gated, 1e-5);
            }
        }
    }

    #[test]
    fn attention(
        batch in 1usize..3, heads in 1usize..4, depth in 1usize..50, queries in 1usize..150, keys in 1usize..300,
        causal in any::<bool>(),
    ) {
        let keys = if causal { queries } else { keys };
        let part = |rows, phase| (wave(&[batch, rows, heads * depth], phase) * 2.0).unwrap();
        let (q, k, v) = (part(queries, 0.1), part(keys, 0.7), part(keys, 1.3));
        let turned = v.transpose(1, 2).unwrap().contiguous().unwrap().transpose(1, 2).unwrap();
        let expected = attend(&q, &k, &v, heads, causal).unwrap();
        let op = FusedAttention { heads, causal };
        for v in [v, turned] {
            check("attention", &q.apply_op3_no_bwd(&k, &v, &op).unwrap(), &expected, 1e-5);
        }
    }

    #[test]
    fn normalisation(
        batch in 1usize..3, groups in 1usize..5, each in 1usize..9, height in 1usize..20, width in 1usize..20,
        silu in any::<bool>(), last in any::<bool>(),
    ) {
        let channels = groups * each;
        let x = ((wave(&[batch, channels, height, width], 0.1) * 3.0).unwrap() + 20.0).unwrap();
        let (w, b) = (wave(&[channels], 0.2), wave(&[channels], 0.3));
        let norm = candle_nn::GroupNorm::new(long(&w), long(&b), channels, groups, 1e-5).unwrap();
        let mut expected = candle_nn::Module::forward(&norm, &long(&x)).unwrap();
        if silu {
            expected = expected.silu().unwrap();
        }
        let x = if last { innermost(&x) } else { x };
        let found = FusedGroupNorm { groups, eps: 1e-5, silu }.forward(&x, &w, &b).unwrap();
        // The values stand at 20, so that a distance from the mean has lost some digits before it is seen.
        check("groups", &found, &expected, 1e-3);
        let x = wave(&[batch, height, channels], 0.1);
        let expected = candle_nn::ops::layer_norm_slow(&long(&x), &long(&w), &long(&b), 1e-5).unwrap();
        let found = x.apply_op3_no_bwd(&w, &b, &FusedLayerNorm { eps: 1e-5 }).unwrap();
        check("rows", &found, &expected, 1e-4);
    }

    #[test]
    fn maps(
        batch in 1usize..3, first in 1usize..9, second in 1usize..9, height in 1usize..9, width in 1usize..9,
        taller in 0usize..9, wider in 0usize..9,
    ) {
        let (a, b) = (wave(&[batch, first, height, width], 0.1), wave(&[batch, second, height, width], 0.2));
        let joined = Tensor::cat(&[&a, &b], 1).unwrap();
        prop_assert_eq!(bits(&cat_channels(&innermost(&a), &b).unwrap()), bits(&joined));
        let (height, width) = (height + taller, width + wider);
        let enlarged = a.upsample_nearest2d(height, width).unwrap();
        for a in [innermost(&a), a] {
            prop_assert_eq!(bits(&upsample_nearest(&a, height, width).unwrap()), bits(&enlarged));
        }
    }
}

/// The error of a wide layer, at the sizes that networks have, against a direct sum in f64.
#[test]
fn transformed_tiles_lose_little() {
    let (x, b) = (wave(&[1, 320, 16, 16], 0.1), wave(&[64], 0.3));
    let w = (wave(&[64, 320, 3, 3], 0.2) * 0.02).unwrap();
    let sizes = ConvSizes { stride: 1, padding: 1 };
    let expected = convolve(&x, &w, &b, sizes).unwrap();
    for arch in ARCHS {
        let layer = PackedConv::with_arch(arch(), &w, &b, sizes).unwrap();
        check("wide", &layer.forward(&x, Addend::Nothing).unwrap(), &expected, 2e-6);
    }
}

#[test]
fn threads_and_batches_change_no_bits() {
    let x = wave(&[3, 48, 21, 18], 0.1);
    let (w, b) = (wave(&[40, 48, 3, 3], 0.2), wave(&[40], 0.3));
    let layer = PackedConv::new(&w, &b, ConvSizes { stride: 1, padding: 1 }).unwrap();
    let linear = PackedLinear::new(&wave(&[96, 48], 0.4), None).unwrap();
    let (w, b) = (wave(&[48], 0.5), wave(&[48], 0.6));
    let run = |x: &Tensor, threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let y = layer.forward(x, Addend::Nothing).unwrap();
            let rows = x.flatten_from(2).unwrap().transpose(1, 2).unwrap();
            let q = linear.forward_geglu(&rows).unwrap();
            let attended =
                q.apply_op3_no_bwd(&rows, &rows, &FusedAttention { heads: 4, causal: false }).unwrap();
            let normed = FusedGroupNorm { groups: 8, eps: 1e-5, silu: true }.forward(x, &w, &b).unwrap();
            [y, attended, normed]
        })
    };
    let together = run(&x, 1);
    for threads in [1, 2, 5] {
        for (a, b) in run(&x, threads).iter().zip(&together) {
            assert_eq!(bits(a), bits(b), "{threads} threads");
        }
    }
    for image in 0..3 {
        for (a, b) in run(&x.narrow(0, image, 1).unwrap(), 2).iter().zip(&together) {
            assert_eq!(bits(a), bits(&b.narrow(0, image, 1).unwrap()), "image {image} alone");
        }
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let conv =
        PackedConv::new(&wave(&[4, 3, 5, 5], 0.0), &wave(&[4], 0.0), ConvSizes { stride: 1, padding: 0 });
    let conv = conv.unwrap();
    assert!(conv.forward(&wave(&[1, 3, 2, 2], 0.0), Addend::Nothing).is_err());
    assert!(conv.forward(&wave(&[1, 2, 8, 8], 0.0), Addend::Nothing).is_err());
    assert!(conv.forward(&wave(&[1, 3, 8, 8], 0.0), Addend::Map(&wave(&[1, 4, 8, 8], 0.0))).is_err());
    let linear = PackedLinear::new(&wave(&[4, 3], 0.0), None).unwrap();
    assert!(linear.forward(&wave(&[1, 2, 4], 0.0)).is_err());
    assert!(wave(&[1, 3], 0.0).apply_op1_no_bwd(&Geglu).is_err());
    let x = wave(&[1, 2, 6], 0.0);
    assert!(x.apply_op3_no_bwd(&x, &x, &FusedAttention { heads: 4, causal: false }).is_err());
}
