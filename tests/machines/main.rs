//! The packages, and their life in a booted systemd.

#[path = "../common/mod.rs"]
mod common;
mod packages;
mod systemd;
