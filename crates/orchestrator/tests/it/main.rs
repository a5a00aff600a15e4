//! The orchestrator from outside: over gRPC on port 0, with fake stages.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

mod api;
mod cache;
mod cancel;
mod growing;
mod harness;
mod idempotency;
mod queue;
mod restart;
mod retry;
mod success;
mod watch;
