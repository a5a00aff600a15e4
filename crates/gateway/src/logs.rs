//! The last lines that this process logged, for the page's log panel.

use serde::Serialize;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::sync::broadcast;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Lines that are kept, as in ComfyUI.
const KEPT: usize = 300;

/// Longest line that is kept; more would be a mistake of whoever logs it.
const MAX_LINE_BYTES: usize = 8192;

/// One line: when, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = LogLine)]
pub struct Entry {
    pub t: String,
    pub m: String,
}

/// The lines of this process. There is one, as there is one log.
#[derive(Debug)]
pub struct Ring {
    lines: Mutex<VecDeque<Entry>>,
    live: broadcast::Sender<Entry>,
}

static RING: LazyLock<Ring> =
    LazyLock::new(|| Ring { lines: Mutex::default(), live: broadcast::Sender::new(KEPT) });

/// The ring of this process.
pub fn ring() -> &'static Ring {
    &RING
}

/// Where logging writes its lines for the ring.
pub fn writer() -> BoxMakeWriter {
    BoxMakeWriter::new(|| Line)
}

struct Line;

impl Write for Line {
    // Logging writes each line with one call.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let kept = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
        RING.push(&String::from_utf8_lossy(kept));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Ring {
    /// Adds a line.
    pub fn push(&self, line: &str) {
        let t = chrono::Local::now().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        let entry = Entry { t, m: format!("{}\n", line.trim_end()) };
        {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(entry.clone());
            if lines.len() > KEPT {
                lines.pop_front();
            }
        }
        // Nobody may be listening.
        let _ = self.live.send(entry);
    }

    /// The last lines, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Hears every line from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Entry> {
        self.live.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept() {
        let ring = Ring { lines: Mutex::default(), live: broadcast::Sender::new(4) };
        let mut live = ring.subscribe();
        ring.push("first\n");
        assert_eq!(live.try_recv().unwrap().m, "first\n");
        for number in 0..KEPT {
            ring.push(&number.to_string());
        }
        let entries = ring.entries();
        assert_eq!((entries.len(), entries[0].m.as_str()), (KEPT, "0\n"));
        assert_eq!(entries[0].t.len(), "2026-11-23T23:54:52.144959".len());
    }
}
