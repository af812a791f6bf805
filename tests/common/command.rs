//! The binary run to its end: its exit code, and what it wrote.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::process::Output;

use super::daemon::ConfigDir;

/// Runs a command of the binary: its exit code, and what it wrote.
pub(crate) fn run(config: &ConfigDir, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = config.command(arguments).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}
