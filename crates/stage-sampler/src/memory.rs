//! Refuses work that cannot fit, instead of being killed half-way through.

use comfy_graph::ErrorCode;
use comfy_stage::NodeError;

/// Bytes that the process may still use: the least of what the system and the control group leave. `None` when
/// neither says, as outside Linux.
fn available_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    let system = meminfo.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    });
    let read = |name: &str| {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok()
    };
    let group =
        read("memory.max").zip(read("memory.current")).map(|(max, current)| max.saturating_sub(current));
    system.into_iter().chain(group).min()
}

/// Whether an operation's working memory fits; where nothing says how much is free, it is taken to.
pub(crate) fn fits(bytes: u64) -> bool {
    available_bytes().is_none_or(|free| bytes <= free)
}

/// Checks that an operation's working memory fits.
///
/// # Errors
/// `ResourceExhausted` with both figures when it does not.
pub(crate) fn require(what: &str, bytes: u64) -> Result<(), NodeError> {
    match available_bytes() {
        Some(free) if bytes > free => {
            let mib = |bytes: u64| bytes >> 20;
            let message =
                format!("{what} needs about {} MiB of memory, {} MiB are free", mib(bytes), mib(free));
            Err(NodeError::new(ErrorCode::ResourceExhausted, message))
        }
        _ => Ok(()),
    }
}

/// Estimates the working memory of a network on feature maps: `channels` f32 planes of `pixels`, `copies` of them
/// alive at once.
pub(crate) fn activations(pixels: usize, channels: usize, copies: usize) -> u64 {
    [pixels, channels, copies, 4].iter().fold(1u64, |n, &f| n.saturating_mul(f as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_work_is_refused_and_small_work_is_not() {
        assert!(require("a picture", 1 << 20).is_ok() && fits(1 << 20) && !fits(u64::MAX));
        let error = require("a picture", u64::MAX).unwrap_err();
        assert_eq!(error.code, ErrorCode::ResourceExhausted);
        assert_eq!(activations(usize::MAX, usize::MAX, 2), u64::MAX);
    }
}
