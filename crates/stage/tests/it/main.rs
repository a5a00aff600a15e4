//! The stage server as its callers see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod lists;
