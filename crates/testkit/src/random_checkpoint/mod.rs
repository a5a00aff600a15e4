//! Writes checkpoints whose every weight is a pure function of its name and index.
//!
//! A value is `f16(mean + (2u - 1) * sqrt(3) * std)`, where `u` is 24 bits of a splitmix64 hash seeded with the
//! FNV-1a hash of the tensor name. Integer arithmetic and a single rounding make the file the same on every machine,
//! so its SHA-256 can be pinned and figures taken from another implementation can be compared.
//!
//! An identity path runs through the network (stem, last skip connection, output convolution), so a noise
//! estimate stays close to its input instead of drowning in random features.

// Every test binary that includes this module uses a part of it.
#![allow(dead_code, unused_imports)]

mod companions;
mod control;
mod layouts;
mod shapes;
mod values;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use companions::*;
pub use control::*;
pub use layouts::*;
use shapes::{Shapes, text_shapes, unet_shapes, vae_shapes};
use values::{Values, stored_type};

/// Writes the small checkpoint: see [`TINY`].
pub fn write_tiny(path: &Path) -> io::Result<()> {
    TINY.write(path)
}

/// Writes the full-size checkpoint: see [`SD15`].
pub fn write_sd15(path: &Path) -> io::Result<()> {
    SD15.write(path)
}

impl Layout {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let values = Values::new(3 * self.unet.levels.len(), self.norms, self.velocity);
        write_file(path, &self.shapes(), &values)
    }

    /// Writes the table of contents and leaves a hole where the values would be.
    pub fn write_header(&self, path: &Path) -> io::Result<()> {
        let shapes = self.shapes();
        let header = header(&shapes);
        let bytes = |(name, shape): (&String, &Vec<usize>)| {
            stored_type(name).1 as u64 * shape.iter().product::<usize>() as u64
        };
        let total = header.len() as u64 + shapes.iter().map(bytes).sum::<u64>();
        let mut file = File::create(path)?;
        file.write_all(&header)?;
        file.set_len(total)
    }

    /// The empty tensors that tell loaders how the network was trained.
    pub fn markers(&self) -> &'static [&'static str] {
        self.markers
    }

    fn shapes(&self) -> Shapes {
        let mut shapes = Shapes::new();
        unet_shapes(&mut shapes, &self.unet);
        vae_shapes(&mut shapes, self.vae);
        self.text.iter().for_each(|tower| text_shapes(&mut shapes, tower));
        shapes.insert("betas".into(), vec![1000]);
        shapes.insert("alphas_cumprod".into(), vec![1000]);
        shapes.extend(self.markers.iter().map(|name| ((*name).to_owned(), vec![0])));
        shapes
    }
}

fn write_file(path: &Path, shapes: &Shapes, values: &Values) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&header(shapes))?;
    for (name, shape) in shapes {
        values.write(&mut out, name, shape)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn header(shapes: &Shapes) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut offset = 0;
    for (name, shape) in shapes {
        let (dtype, width) = stored_type(name);
        let end = offset + width * shape.iter().product::<usize>();
        let dims = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        json.push_str(&format!(
            r#","{name}":{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{offset},{end}]}}"#
        ));
        offset = end;
    }
    json.push('}');
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}
