//! Runs a program to its end, usually our binary: its exit code and output.

use std::fmt;
use std::process::Command;

use super::daemon::ConfigDir;

/// How a program ended, and its output; shows all of that.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Runs a command to its end.
    pub(crate) fn by(command: &mut Command) -> Self {
        let output = command.output().expect("the program starts");
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs the binary with this configuration.
    pub(crate) fn with(config: &ConfigDir, arguments: &[&str]) -> Self {
        Self::by(&mut config.command(arguments))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(f, "exit code {code:?}\n{stdout}{stderr}")
    }
}

/// Runs the binary with this configuration: its exit code and all its output.
pub(crate) fn run(config: &ConfigDir, arguments: &[&str]) -> (Option<i32>, String) {
    let Said {
        code,
        stdout,
        stderr,
    } = Said::with(config, arguments);
    (code, stdout + &stderr)
}
