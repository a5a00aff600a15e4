//! Makes other files of a safetensors file: a part of it under other names, as safetensors or as PyTorch writes it.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// A tensor and where its bytes are.
struct Stored {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    bytes: Range<u64>,
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

/// The tensors that `rename` keeps, under the names that it gives, in order of their place in the file.
fn choose(source: &mut File, rename: &dyn Fn(&str) -> Option<String>) -> io::Result<Vec<Stored>> {
    let mut length = [0; 8];
    source.read_exact(&mut length)?;
    let start = 8 + u64::from_le_bytes(length);
    let mut text = vec![0; (start - 8) as usize];
    source.read_exact(&mut text)?;
    let header: serde_json::Value = serde_json::from_slice(&text)?;
    let mut chosen = Vec::new();
    for (name, entry) in header.as_object().ok_or_else(|| invalid("the header is no object"))? {
        let (Some(name), Some(dtype)) = (rename(name), entry["dtype"].as_str()) else { continue };
        let shape: Vec<u64> = serde_json::from_value(entry["shape"].clone())?;
        let [from, to]: [u64; 2] = serde_json::from_value(entry["data_offsets"].clone())?;
        chosen.push(Stored { name, dtype: dtype.to_owned(), shape, bytes: start + from..start + to });
    }
    chosen.sort_by_key(|stored| stored.bytes.start);
    Ok(chosen)
}

fn load(source: &mut File, place: &Range<u64>) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(place.start))?;
    let mut bytes = vec![0; (place.end - place.start) as usize];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Writes the tensors that `rename` keeps as safetensors.
///
/// # Errors
/// When the source is no safetensors file, or reading or writing fails.
pub fn write_safetensors(
    source: &Path,
    output: &Path,
    rename: &dyn Fn(&str) -> Option<String>,
) -> io::Result<()> {
    let mut source = File::open(source)?;
    let chosen = choose(&mut source, rename)?;
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for stored in &chosen {
        let end = at + (stored.bytes.end - stored.bytes.start);
        let entry =
            serde_json::json!({"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [at, end]});
        header.insert(stored.name.clone(), entry);
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut output = BufWriter::new(File::create(output)?);
    output.write_all(&(text.len() as u64).to_le_bytes())?;
    output.write_all(&text)?;
    for stored in &chosen {
        output.write_all(&load(&mut source, &stored.bytes)?)?;
    }
    output.flush()
}

/// Writes the tensors that `rename` keeps as `torch.save({"state_dict": {…}})` does, in the zip format.
///
/// # Errors
/// As [`write_safetensors`]; also for a number format that has no storage class in PyTorch.
pub fn write_torch(source: &Path, output: &Path, rename: &dyn Fn(&str) -> Option<String>) -> io::Result<()> {
    let mut source = File::open(source)?;
    let chosen = choose(&mut source, rename)?;
    let mut zip = Zip { output: BufWriter::new(File::create(output)?), at: 0, table: Vec::new(), entries: 0 };
    zip.add("archive/data.pkl", &pickle(&chosen)?)?;
    zip.add("archive/byteorder", b"little")?;
    for (i, stored) in chosen.iter().enumerate() {
        zip.add(&format!("archive/data/{i}"), &load(&mut source, &stored.bytes)?)?;
    }
    zip.add("archive/version", b"3\n")?;
    zip.finish()
}

/// Writes a PyTorch file around a pickle, without any tensors.
///
/// # Errors
/// When writing fails.
pub fn write_pickle(output: &Path, pickle: &[u8]) -> io::Result<()> {
    let mut zip = Zip { output: BufWriter::new(File::create(output)?), at: 0, table: Vec::new(), entries: 0 };
    zip.add("archive/data.pkl", pickle)?;
    zip.finish()
}

fn storage_class(dtype: &str) -> io::Result<&'static str> {
    Ok(match dtype {
        "F64" => "DoubleStorage",
        "F32" => "FloatStorage",
        "F16" => "HalfStorage",
        "BF16" => "BFloat16Storage",
        "I64" => "LongStorage",
        other => return Err(invalid(&format!("`{other}` has no storage class"))),
    })
}

fn pickle(tensors: &[Stored]) -> io::Result<Vec<u8>> {
    let mut pickle = b"\x80\x02}".to_vec();
    text(&mut pickle, "state_dict");
    pickle.extend(b"ccollections\nOrderedDict\n)R(");
    for (i, stored) in tensors.iter().enumerate() {
        text(&mut pickle, &stored.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{}\n", storage_class(&stored.dtype)?).bytes());
        text(&mut pickle, &i.to_string());
        text(&mut pickle, "cpu");
        number(&mut pickle, stored.shape.iter().product());
        pickle.extend(b"tQK\0(");
        stored.shape.iter().for_each(|&size| number(&mut pickle, size));
        pickle.extend(b"t(");
        for dimension in 0..stored.shape.len() {
            number(&mut pickle, stored.shape[dimension + 1..].iter().product());
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"us.");
    Ok(pickle)
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

fn number(pickle: &mut Vec<u8>, number: u64) {
    pickle.extend([0x8a, 8]);
    pickle.extend(number.to_le_bytes());
}

/// A zip archive of stored entries, below 4 GiB.
struct Zip<W: Write> {
    output: W,
    at: u64,
    table: Vec<u8>,
    entries: u16,
}

impl<W: Write> Zip<W> {
    fn add(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let small = |number: u64| u32::try_from(number).map_err(|_| invalid("the archive is too large"));
        let mut shared = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        shared.extend(crc32fast::hash(data).to_le_bytes());
        shared.extend(
            [small(data.len() as u64)?.to_le_bytes(), small(data.len() as u64)?.to_le_bytes()].concat(),
        );
        shared.extend((name.len() as u16).to_le_bytes());
        shared.extend([0, 0]);
        let header = [b"PK\x03\x04", &shared[..], name.as_bytes()].concat();
        self.table
            .extend([b"PK\x01\x02\0\0", &shared[..], &[0; 10], &small(self.at)?.to_le_bytes()].concat());
        self.table.extend(name.bytes());
        self.output.write_all(&header)?;
        self.output.write_all(data)?;
        self.at += (header.len() + data.len()) as u64;
        self.entries += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        let start = u32::try_from(self.at).map_err(|_| invalid("the archive is too large"))?;
        self.output.write_all(&self.table)?;
        self.output.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.output.write_all(&[self.entries.to_le_bytes(), self.entries.to_le_bytes()].concat())?;
        self.output.write_all(&(self.table.len() as u32).to_le_bytes())?;
        self.output.write_all(&start.to_le_bytes())?;
        self.output.write_all(&[0, 0])?;
        self.output.flush()
    }
}
