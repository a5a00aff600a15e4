use comfy_imaging::*;
use std::time::Instant;
fn main() {
    let side: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let data: Vec<u8> = (0..side * side * 4).map(|i| (i / 977 % 256) as u8).collect();
    let t = Instant::now();
    let png = encode_png(PixelView::new(side, side, Channels::Rgba, &data).unwrap(), &[("prompt", "{}")], 4).unwrap();
    eprintln!("encode {:?} {} bytes", t.elapsed(), png.len());
    drop(data);
    let t = Instant::now();
    let image = decode(&png, &Limits::default());
    eprintln!("decode {:?} {:?}", t.elapsed(), image.as_ref().map(|i| (i.width, i.height)));
    let image = image.unwrap();
    let t = Instant::now();
    for method in ResizeMethod::ALL {
        let out = resize(PixelView::new(side, side, Channels::Rgb, &image.frames[0].rgb).unwrap(), &Resize { method, width: side / 2, height: side / 2, crop: Crop::Disabled }).unwrap();
        eprintln!("{method} {:?} {}", t.elapsed(), out.width());
    }
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    eprintln!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
