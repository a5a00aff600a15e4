//! Which failures of a stage are tried again, when, and for how long.

use super::StageError;
use crate::ErrorCode;
use std::time::Duration;

/// Bounds what a job puts up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait after the first failure; doubled with each further one.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// How many times a group may run out of memory or time in a row.
    pub attempts: u32,
    /// How long a stage may stay unreachable. Long enough for a restart, so that restarting loses no job.
    pub unreachable_for: Duration,
    /// How many times a stage may be lost in the middle of the same node: a node that kills its stage must not do
    /// so for ever.
    pub crashes: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(15),
            attempts: 3,
            unreachable_for: Duration::from_secs(600),
            crashes: 5,
        }
    }
}

/// What became of the attempts at one group. Forgotten whenever a node of the group is committed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
    exhausted: u32,
    crashes: u32,
    unreachable_since: Option<Duration>,
    heard: bool,
}

pub(super) enum Verdict {
    Retry {
        after: Duration,
    },
    /// `why` says which bound was reached, when one was.
    GiveUp {
        why: Option<String>,
    },
}

impl Failures {
    /// A new attempt begins.
    pub(super) fn attempt(&mut self) {
        self.heard = false;
    }

    /// The running attempt has reached its stage.
    pub(super) fn heard(&mut self) {
        self.heard = true;
        self.unreachable_since = None;
    }

    /// The running attempt got somewhere.
    pub(super) fn committed(&mut self) {
        *self = Self { heard: true, ..Self::default() };
    }

    pub(super) fn judge(&mut self, error: &StageError, policy: &RetryPolicy, now: Duration) -> Verdict {
        let bound = match error.code {
            ErrorCode::Unavailable => self.lost(policy, now),
            ErrorCode::ResourceExhausted | ErrorCode::DeadlineExceeded => {
                self.exhausted += 1;
                (self.exhausted >= policy.attempts).then(|| format!("failed {} times", self.exhausted))
            }
            _ => return Verdict::GiveUp { why: None },
        };
        if bound.is_some() {
            return Verdict::GiveUp { why: bound };
        }
        let doublings = self.in_a_row.min(16);
        self.in_a_row += 1;
        let after = policy.first_wait.saturating_mul(1 << doublings).min(policy.longest_wait);
        Verdict::Retry { after }
    }

    fn lost(&mut self, policy: &RetryPolicy, now: Duration) -> Option<String> {
        let since = *self.unreachable_since.get_or_insert(now);
        if now.saturating_sub(since) >= policy.unreachable_for {
            return Some(format!("stayed away for {} s", policy.unreachable_for.as_secs()));
        }
        if self.heard {
            self.crashes += 1;
        }
        (self.crashes >= policy.crashes)
            .then(|| format!("was lost {} times in the middle of a node", self.crashes))
    }
}
