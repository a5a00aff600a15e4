//! The shell that every service binary shares: logging, shutdown and typed configuration values.

pub mod config;
pub mod shutdown;
pub mod telemetry;
