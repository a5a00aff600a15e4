//! Files that were cut off or altered give errors.

use crate::{archive, fixtures};
use std::time::Instant;

#[test]
fn cut_off_files_are_refused_at_every_length() {
    let mut cuts = 0;
    for (name, bytes) in fixtures::all() {
        // The legacy format ends with its last storage, a zip archive with its table of contents.
        for keep in (0..bytes.len()).step_by(if bytes.len() > 1000 { 16 } else { 1 }).chain([bytes.len() - 1])
        {
            assert!(archive::convert(&bytes[..keep]).is_err(), "{name} cut to {keep} bytes was accepted");
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
}

/// Any bit may be wrong. The result may then be other values, but never a panic, and never a file that does not parse.
#[test]
fn altered_files_never_panic() {
    let started = Instant::now();
    let (mut refused, mut read) = (0, 0);
    for (_, bytes) in fixtures::all() {
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= [0x01, 0x80, 0xff][at % 3];
            match archive::convert(&altered) {
                Ok(output) => {
                    safetensors::SafeTensors::deserialize(&output).unwrap();
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    println!("{refused} refused, {read} read, {:?}", started.elapsed());
}
