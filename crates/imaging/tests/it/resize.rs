//! Every ImageScale and ImageInvert case recorded from ComfyUI.

use comfy_imaging::{Channels, Crop, PixelView, Pixels, Resize, ResizeMethod, invert, resize, scaled_size};
use safetensors::SafeTensors;

use crate::fixture;

fn input() -> Pixels<f32> {
    let data = (0..10 * 12 * 3)
        .map(|index| {
            let (y, x, channel) = (index / 36, index / 3 % 12, index % 3);
            ((y * 131 + x * 17 + channel * 57 + ((x * y) % 23) * 11) % 256) as f32 / 255.0
        })
        .collect();
    Pixels::new(12, 10, Channels::Rgb, data).unwrap()
}

fn recorded(tensors: &SafeTensors<'_>, key: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = tensors.tensor(key).unwrap();
    let samples = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (tensor.shape().to_vec(), samples.collect())
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_recorded_case_agrees() {
    let file = fixture("image_nodes.safetensors");
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let input = input();
    let mut cases = 0;
    for key in tensors.names().into_iter().filter(|key| key.starts_with("ImageScale|")) {
        let arguments: Vec<&str> = key.trim_end_matches("#0").split('|').collect();
        let method: ResizeMethod = arguments[1].parse().unwrap();
        let crop: Crop = arguments[2].parse().unwrap();
        let (width, height) = arguments[3].split_once('x').unwrap();
        let (width, height) = (width.parse().unwrap(), height.parse().unwrap());
        let (shape, expected) = recorded(&tensors, key);
        let found = match scaled_size((12, 10), width, height) {
            None => input.clone(),
            Some((width, height)) => resize(input.view(), &Resize { method, width, height, crop }).unwrap(),
        };
        assert_eq!([1, found.height(), found.width(), 3], shape[..], "{key}");
        let difference = largest_difference(found.data(), &expected);
        assert!(difference <= 1e-5, "{key}: off by {difference}");
        cases += 1;
    }
    assert_eq!(cases, 50);
}

#[test]
fn invert_agrees() {
    let file = fixture("image_nodes.safetensors");
    let (_, expected) = recorded(&SafeTensors::deserialize(&file).unwrap(), "ImageInvert#0");
    let mut samples = input().into_data();
    invert(&mut samples);
    assert_eq!(samples, expected);
}

#[test]
fn flat_pictures_stay_flat_at_any_size() {
    for method in ResizeMethod::ALL {
        for (source, target) in
            [((1, 1), (7, 5)), ((5, 7), (1, 1)), ((640, 3), (3, 640)), ((3, 200), (50, 2))]
        {
            for crop in Crop::ALL {
                let data = vec![0.6; source.0 * source.1];
                let view = PixelView::new(source.0, source.1, Channels::Gray, &data).unwrap();
                let order = Resize { method, width: target.0, height: target.1, crop };
                let found = resize(view, &order).unwrap();
                assert_eq!((found.width(), found.height()), target);
                // Lanczos cuts 0.6 to its level, which is 153 exactly.
                let far = found.data().iter().map(|sample| (sample - 0.6).abs()).fold(0.0, f32::max);
                assert!(far <= 1e-5, "{order:?}: off by {far}");
            }
        }
    }
}

#[test]
fn wrong_orders_are_refused() {
    let input = input();
    let order = Resize { method: ResizeMethod::Area, width: 4, height: 4, crop: Crop::Disabled };
    assert!(resize(input.view(), &Resize { width: 0, ..order }).is_err());
    assert!(resize(input.view(), &Resize { width: usize::MAX, ..order }).is_err());
    let error = "cubic".parse::<ResizeMethod>().unwrap_err().to_string();
    assert!(error.contains("`cubic`") && error.contains("`bicubic`"), "{error}");
    assert!("left".parse::<Crop>().is_err());
}
