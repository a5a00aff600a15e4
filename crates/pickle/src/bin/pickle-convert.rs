//! Converts one PyTorch file to safetensors in a process that has little to lose.
//!
//! `pickle-convert INPUT OUTPUT [CPU_SECONDS]` limits its own memory, processor time, file size and open files before
//! it opens the input. On success it prints the number of tensors; otherwise it prints one line that says why to the
//! standard error output and ends with 2 when the file is to blame, with 3 when reading or writing failed. Until the
//! output is complete it is called `OUTPUT.<process id>.partial`.

use comfy_pickle::{Error, convert, max_output_bytes};
use rlimit::{Resource, getrlimit, setrlimit};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Address space: a strided tensor's part of the file, the objects of the largest pickle, and the program.
const MEMORY_BYTES: u64 = 3 << 30;
const CPU_SECONDS: u64 = 900;
const OPEN_FILES: u64 = 16;

fn main() -> ExitCode {
    match run() {
        Ok(tensors) => {
            let _ = writeln!(std::io::stdout(), "{tensors} tensors");
            ExitCode::SUCCESS
        }
        Err(Failure { reason, code }) => {
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::from(code)
        }
    }
}

struct Failure {
    reason: String,
    code: u8,
}

const FILE_REFUSED: u8 = 2;
const NOT_DONE: u8 = 3;

fn not_done(reason: impl Into<String>) -> Failure {
    Failure { reason: reason.into(), code: NOT_DONE }
}

fn run() -> Result<usize, Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: pickle-convert INPUT OUTPUT [CPU_SECONDS]";
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err(not_done(usage));
    };
    let seconds = match arguments.next() {
        Some(text) => text.to_str().and_then(|t| t.parse().ok()).ok_or_else(|| not_done(usage))?,
        None => CPU_SECONDS,
    };
    if arguments.next().is_some() {
        return Err(not_done(usage));
    }
    let (input, output) = (PathBuf::from(input), PathBuf::from(output));
    let bytes = std::fs::metadata(&input).map_err(|error| not_done(format!("cannot read: {error}")))?.len();
    let limits = [
        (Resource::AS, MEMORY_BYTES),
        (Resource::CPU, seconds),
        (Resource::FSIZE, max_output_bytes(bytes)),
        (Resource::NOFILE, OPEN_FILES),
        (Resource::CORE, 0),
    ];
    for (resource, limit) in limits {
        confine(resource, limit).map_err(|error| not_done(format!("cannot limit {resource:?}: {error}")))?;
    }
    convert(&input, &output).map(|done| done.tensors).map_err(|error| {
        let code = if matches!(error, Error::Io(_)) { NOT_DONE } else { FILE_REFUSED };
        Failure { reason: error.to_string(), code }
    })
}

/// Lowers a limit for good; one that is lower already stays.
fn confine(resource: Resource, limit: u64) -> std::io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, limit.min(hard), limit.min(hard))
}
