//! Writes pickles and zip archives by hand, so that they can lie.

use comfy_pickle::{Error, PickleIndex};
use std::io::Cursor;

/// One entry of an archive, with the parts that a liar may change.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// The size that the table of contents claims.
    pub claimed: Option<u32>,
    /// The position that the table of contents claims.
    pub position: Option<u32>,
}

impl Entry {
    pub fn new(name: &str, data: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), data: data.into(), method: 0, flags: 0, claimed: None, position: None }
    }
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for entry in entries {
        let position = entry.position.unwrap_or(file.len() as u32);
        let size = entry.claimed.unwrap_or(entry.data.len() as u32);
        let name = (entry.name.len() as u16).to_le_bytes();
        file.extend(b"PK\x03\x04\0\0");
        for field in [entry.flags, entry.method, 0, 0] {
            file.extend(field.to_le_bytes());
        }
        file.extend([0; 12]);
        file.extend(name);
        file.extend([0; 2]);
        file.extend(entry.name.as_bytes());
        file.extend(&entry.data);
        table.extend(b"PK\x01\x02\0\0\0\0");
        for field in [entry.flags, entry.method, 0, 0] {
            table.extend(field.to_le_bytes());
        }
        table.extend([0; 4]);
        table.extend(size.to_le_bytes());
        table.extend(size.to_le_bytes());
        table.extend(name);
        table.extend([0; 12]);
        table.extend(position.to_le_bytes());
        table.extend(entry.name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let end = [
        b"PK\x05\x06\0\0\0\0",
        &count[..],
        &count[..],
        &(table.len() as u32).to_le_bytes(),
        &(file.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [file, table, end].concat()
}

/// An archive as PyTorch writes it, around a pickle and one storage of 24 bytes.
pub fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[
        Entry::new("a/data.pkl", pickle),
        Entry::new("a/byteorder", *b"little"),
        Entry::new("a/data/0", [7; 24]),
    ])
}

/// The instructions that describe a tensor of `torch.FloatStorage` 0, given as those of offset, size and stride.
pub fn tensor(elements: &[u8], offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu",
        elements,
        b"tQ",
        offset,
        size,
        stride,
        b"\x89)tR",
    ]
    .concat()
}

/// A whole pickle of a dictionary with one entry `x`.
pub fn with_x(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}X\x01\0\0\0x", value, b"s."].concat()
}

/// The sound example that the hostile ones are variations of.
pub fn sound() -> Vec<u8> {
    archive(&with_x(&tensor(b"K\x06", b"K\0", b"K\x02K\x03\x86", b"K\x03K\x01\x86")))
}

pub fn read(bytes: &[u8]) -> Result<PickleIndex, Error> {
    PickleIndex::read(&mut Cursor::new(bytes))
}

/// Reads and, if that works, converts.
pub fn convert(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut input = Cursor::new(bytes);
    let index = PickleIndex::read(&mut input)?;
    let mut output = Vec::new();
    comfy_pickle::write_safetensors(&mut input, &index, &mut output)?;
    Ok(output)
}

#[test]
fn the_example_is_sound() {
    let output = convert(&sound()).unwrap();
    let read = safetensors::SafeTensors::deserialize(&output).unwrap();
    let tensor = read.tensor("x").unwrap();
    assert_eq!((tensor.shape(), tensor.data()), (&[2, 3][..], &[7; 24][..]));
}
