//! The stage server as its callers see it.

mod lists;
