//! Black-box tests of the gateway, against an orchestrator that does what each test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod abuse;
mod comfy;
mod fake_orchestrator;
mod figures;
mod files;
mod gateway;
mod later;
mod names;
mod routes;
mod sse;
mod transport;
mod v1;
mod ws;
