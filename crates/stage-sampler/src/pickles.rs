//! Has PyTorch files converted to safetensors, by a program of its own that runs under limits.
//!
//! What a hostile file can reach is that program: it executes nothing of the file, and if it should fail or hang it
//! is ended, and the stage goes on. Converted files are kept in the artifact volume and found again by the place,
//! size and time of the file that they were made from.

use comfy_graph::ErrorCode;
use comfy_stage::NodeError;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

const PROGRAM: &str = "pickle-convert";
/// What the program ends with when the file is to blame.
const FILE_REFUSED: i32 = 2;
const MAX_MESSAGE_BYTES: u64 = 2000;
const POLL: Duration = Duration::from_millis(20);
/// Left-overs of a crash older than this are removed.
const STALE: Duration = Duration::from_secs(3600);

/// Why a file was not converted.
#[derive(Debug)]
pub(crate) enum NotConverted {
    /// The file is not one that can be converted, whenever it is tried.
    Refused(String),
    /// It did not work this time.
    Failed(NodeError),
}

/// The converter and the folder of what it made.
#[derive(Debug)]
pub(crate) struct Pickles {
    folder: PathBuf,
    /// `None` when this program's own place is unknown.
    program: Option<PathBuf>,
    limit: Duration,
    // One at a time: they compete for the same disk, and two may want the same file.
    busy: Mutex<()>,
}

impl Pickles {
    pub(crate) fn new(artifacts_root: &Path, limit: Duration) -> Self {
        let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
        let program = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
        Self { folder: artifacts_root.join("converted"), program, limit, busy: Mutex::default() }
    }

    /// The name of what a file is converted to, without its ending: the file's place, then its version.
    fn stem(path: &Path, fingerprint: &str) -> (String, String) {
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let place = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
        (place[..32].to_owned(), format!("{}-{fingerprint}", &place[..32]))
    }

    fn target(&self, path: &Path, fingerprint: &str) -> PathBuf {
        self.folder.join(format!("{}.safetensors", Self::stem(path, fingerprint).1))
    }

    /// The converted file, if there is one.
    pub(crate) fn ready(&self, path: &Path, fingerprint: &str) -> Option<PathBuf> {
        Some(self.target(path, fingerprint)).filter(|target| target.is_file())
    }

    /// Converts a file, if that has not been done. `go_on` is asked again and again in between.
    ///
    /// # Errors
    /// When the file is refused, when converting it fails or takes too long, and what `go_on` gives.
    pub(crate) fn convert(
        &self,
        path: &Path,
        fingerprint: &str,
        go_on: &dyn Fn() -> Result<(), NodeError>,
    ) -> Result<PathBuf, NotConverted> {
        let _busy = self.busy.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let target = self.target(path, fingerprint);
        if target.is_file() {
            return Ok(target);
        }
        let started = Instant::now();
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| failed(format!("the artifact volume: {error}")))?;
        self.tidy(&Self::stem(path, fingerprint).0);
        let mut child = self.start(path, &target)?;
        let ended = self.wait(&mut child, go_on);
        if !matches!(&ended, Ok(status) if status.success()) {
            // It removes its own file unless it was ended from outside.
            let _ = std::fs::remove_file(partial(&target, child.id()));
        }
        let status = ended.map_err(NotConverted::Failed)?;
        if status.success() {
            tracing::info!(file = %path.display(), elapsed = ?started.elapsed(), "converted a pytorch file");
            return Ok(target);
        }
        Err(blame(status, &message(&mut child)))
    }

    fn start(&self, path: &Path, target: &Path) -> Result<Child, NotConverted> {
        let missing = |place: String| {
            let text =
                format!("PyTorch files are converted by the program `{PROGRAM}`, which is missing: {place}");
            NotConverted::Failed(NodeError::new(ErrorCode::FailedPrecondition, text))
        };
        let program =
            self.program.as_ref().ok_or_else(|| missing("the folder of this program is unknown".into()))?;
        if !program.is_file() {
            return Err(missing(format!("there is no `{}`", program.display())));
        }
        let mut command = Command::new(program);
        command.arg(path).arg(target).arg(self.limit.as_secs().max(1).to_string());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(|error| failed(format!("`{PROGRAM}` cannot be started: {error}")))
    }

    /// Waits for the program to end, or ends it.
    fn wait(
        &self,
        child: &mut Child,
        go_on: &dyn Fn() -> Result<(), NodeError>,
    ) -> Result<ExitStatus, NodeError> {
        let deadline = Instant::now() + self.limit;
        loop {
            let ended = child.try_wait().map_err(|error| NodeError::internal(error.to_string()));
            if let Some(status) = ended? {
                return Ok(status);
            }
            let late = (Instant::now() > deadline).then(|| {
                let text = format!("converting it took longer than {:?}, see PICKLE_TIMEOUT", self.limit);
                NodeError::new(ErrorCode::FailedPrecondition, text)
            });
            if let Err(error) = late.map_or_else(go_on, Err) {
                // Either it has just ended by itself or this ends it; waiting then cannot hang.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Removes what earlier versions of a file were converted to, and what crashes left behind.
    fn tidy(&self, place: &str) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::now());
            let stale = name.ends_with(".partial") && modified.elapsed().is_ok_and(|age| age > STALE);
            if stale || (name.starts_with(place) && name.ends_with(".safetensors")) {
                // A file that stays costs space and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// What the program calls its output until it is complete.
fn partial(target: &Path, process: u32) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{process}.partial"));
    name.into()
}

fn failed(text: String) -> NotConverted {
    NotConverted::Failed(NodeError::internal(text))
}

/// The one line that the program wrote.
fn message(child: &mut Child) -> String {
    let mut bytes = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_MESSAGE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().replace(char::is_control, " ")
}

fn blame(status: ExitStatus, message: &str) -> NotConverted {
    if status.code() == Some(FILE_REFUSED) {
        return NotConverted::Refused(message.to_owned());
    }
    if status.code().is_none() {
        // Ended by a signal: one of its own limits, or somebody who ran out of memory.
        return NotConverted::Failed(NodeError::new(
            ErrorCode::FailedPrecondition,
            format!("converting it went over a limit of memory, time or space ({status}) {message}")
                .trim()
                .to_owned(),
        ));
    }
    failed(format!("converting it failed: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A converter that is a shell script, with the file to convert as `$1` and the output as `$2`.
    fn pickles(script: &str, limit: Duration) -> (tempfile::TempDir, Pickles, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("x.ckpt");
        std::fs::write(&file, "x").unwrap();
        let mut pickles = Pickles::new(folder.path(), limit);
        pickles.program = Some(program);
        (folder, pickles, file)
    }

    fn failure(result: Result<PathBuf, NotConverted>) -> NodeError {
        match result {
            Err(NotConverted::Failed(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_file_is_converted_once_per_version() {
        let (folder, pickles, file) = pickles("echo run >>$1.log; /bin/cp $1 $2", LIMIT);
        let first = pickles.convert(&file, "1-1", &|| Ok(())).unwrap();
        assert_eq!(pickles.convert(&file, "1-1", &|| Ok(())).unwrap(), first);
        assert_eq!(pickles.ready(&file, "1-1").as_ref(), Some(&first));
        let second = pickles.convert(&file, "1-2", &|| Ok(())).unwrap();
        assert!(second != first && second.is_file() && !first.exists(), "the old version is removed");
        assert_eq!(std::fs::read_to_string(folder.path().join("x.ckpt.log")).unwrap(), "run\nrun\n");
    }

    #[test]
    fn refusals_and_failures_are_told_apart() {
        let (_folder, refusing, file) = pickles("echo refers to bad thing >&2; exit 2", LIMIT);
        let refused = refusing.convert(&file, "1", &|| Ok(()));
        assert!(matches!(refused, Err(NotConverted::Refused(text)) if text == "refers to bad thing"));
        let (_folder, broken, file) = pickles("echo disk full >&2; exit 3", LIMIT);
        let error = failure(broken.convert(&file, "1", &|| Ok(())));
        assert!(error.code == ErrorCode::Internal && error.message.contains("disk full"), "{error:?}");
        let (_folder, killed, file) = pickles("kill -9 $$", LIMIT);
        let error = failure(killed.convert(&file, "1", &|| Ok(())));
        assert!(error.message.contains("went over a limit"), "{error:?}");
    }

    #[test]
    fn a_converter_that_hangs_is_ended() {
        let (folder, pickles, file) =
            pickles("echo x >$2.$$.partial; exec /bin/sleep 100", Duration::from_millis(300));
        let started = Instant::now();
        let error = failure(pickles.convert(&file, "1", &|| Ok(())));
        assert!(
            error.message.contains("PICKLE_TIMEOUT") && started.elapsed() < Duration::from_secs(20),
            "{error:?}"
        );
        assert_eq!(std::fs::read_dir(folder.path().join("converted")).unwrap().count(), 0);
    }

    #[test]
    fn a_cancelled_job_ends_its_converter() {
        let (_folder, pickles, file) = pickles("exec /bin/sleep 100", LIMIT);
        let error = failure(pickles.convert(&file, "1", &|| Err(NodeError::cancelled())));
        assert_eq!(error.code, ErrorCode::Cancelled);
    }

    #[test]
    fn a_missing_converter_is_named() {
        let (folder, mut pickles, file) = pickles("", LIMIT);
        pickles.program = Some(folder.path().join("gone"));
        let error = failure(pickles.convert(&file, "1", &|| Ok(())));
        assert!(error.message.contains("pickle-convert") && error.message.contains("gone"), "{error:?}");
    }
}
