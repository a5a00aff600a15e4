//! The most memory that the process held while a node ran.
//!
//! What counts is the memory of the whole process that is resident: the models it keeps are part of it, and so is what
//! runs beside the node. Memory of a GPU is not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Measurements that run now. The kernel keeps one peak per process, so they share it.
static METER: Mutex<Meter> = Mutex::new(Meter { next: 0, running: BTreeMap::new() });

/// A measurement from its start to [`Peak::bytes`].
pub(crate) struct Peak(Option<u64>);

impl Peak {
    pub(crate) fn start() -> Self {
        Self(meter(|meter| meter.start(&Kernel)))
    }

    /// The peak since the start; `None` where the system does not tell.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.0.and_then(|id| meter(|meter| meter.peak(id, &Kernel)))
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            meter(|meter| meter.running.remove(&id));
        }
    }
}

fn meter<T>(work: impl FnOnce(&mut Meter) -> T) -> T {
    work(&mut METER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Where peaks come from.
trait Source {
    /// The peak since the process began or since the last reset.
    fn peak(&self) -> Option<u64>;
    /// Begins the peak anew; `false` when that is not allowed.
    fn reset(&self) -> bool;
}

struct Meter {
    next: u64,
    running: BTreeMap<u64, Span>,
}

struct Span {
    /// A peak that is not above this one may be older than the measurement.
    floor: u64,
    /// The highest peak that a later measurement reset.
    seen: u64,
}

impl Meter {
    fn start(&mut self, source: &dyn Source) -> Option<u64> {
        let so_far = source.peak()?;
        for span in self.running.values_mut() {
            span.seen = span.seen.max(so_far);
        }
        let floor = if source.reset() { 0 } else { so_far };
        self.next += 1;
        self.running.insert(self.next, Span { floor, seen: 0 });
        Some(self.next)
    }

    fn peak(&self, id: u64, source: &dyn Source) -> Option<u64> {
        let span = self.running.get(&id)?;
        let peak = source.peak()?.max(span.seen);
        (peak > span.floor).then_some(peak)
    }
}

/// Linux's own account of the process.
struct Kernel;

impl Source for Kernel {
    fn peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    fn reset(&self) -> bool {
        std::fs::write("/proc/self/clear_refs", "5").is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A process whose peak a test sets, resident now and peak.
    struct Fake {
        now: Cell<u64>,
        peak: Cell<u64>,
        resettable: bool,
    }

    impl Fake {
        fn new(resettable: bool) -> Self {
            Self { now: Cell::new(10), peak: Cell::new(100), resettable }
        }

        fn hold(&self, bytes: u64) {
            self.now.set(bytes);
            self.peak.set(self.peak.get().max(bytes));
        }
    }

    impl Source for Fake {
        fn peak(&self) -> Option<u64> {
            Some(self.peak.get())
        }

        fn reset(&self) -> bool {
            if self.resettable {
                self.peak.set(self.now.get());
            }
            self.resettable
        }
    }

    fn empty() -> Meter {
        Meter { next: 0, running: BTreeMap::new() }
    }

    #[test]
    fn each_measurement_has_the_peak_of_its_own_time() {
        let (fake, mut meter) = (Fake::new(true), empty());
        let outer = meter.start(&fake).unwrap();
        assert_eq!(meter.peak(outer, &fake), Some(10), "what was before does not count");
        fake.hold(70);
        fake.hold(20);
        let inner = meter.start(&fake).unwrap();
        fake.hold(50);
        assert_eq!((meter.peak(outer, &fake), meter.peak(inner, &fake)), (Some(70), Some(50)));
    }

    #[test]
    fn without_a_reset_only_a_new_peak_is_told() {
        let (fake, mut meter) = (Fake::new(false), empty());
        let id = meter.start(&fake).unwrap();
        fake.hold(90);
        assert_eq!(meter.peak(id, &fake), None, "100 was reached before");
        fake.hold(130);
        assert_eq!(meter.peak(id, &fake), Some(130));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_held_is_measured() {
        const HELD: usize = 64 << 20;
        let before = Kernel.peak().unwrap();
        let peak = Peak::start();
        // Written to, because memory that nobody touched is not resident.
        let held = std::hint::black_box(vec![1_u8; HELD]);
        drop(held);
        let bytes = peak.bytes().unwrap();
        assert!(bytes > HELD as u64 && bytes < before + 4 * HELD as u64, "{bytes}");
    }
}
