//! Runs of the real psql.

use std::fmt::Write as _;
use std::process::{Command, ExitStatus};

/// A run of psql to be started.
pub(crate) struct Psql {
    pub(super) command: Command,
}

impl Psql {
    /// Runs as this role.
    pub(crate) fn role(mut self, role: &str) -> Self {
        self.command.env("PGUSER", role);
        self
    }

    /// Runs with this search_path.
    pub(crate) fn search_path(mut self, path: &str) -> Self {
        let mut options = "-c search_path=".to_owned();
        for character in path.chars() {
            let escape = if matches!(character, ' ' | '\\') {
                "\\"
            } else {
                ""
            };
            write!(options, "{escape}{character}").expect("a String takes it");
        }
        self.command.env("PGOPTIONS", options);
        self
    }

    /// Sets a variable of psql.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.arg(format!("--set={name}={value}"));
        self
    }

    /// Runs a file, its path relative to the repository.
    pub(crate) fn file(mut self, path: &str) -> PsqlOutput {
        self.command.args(["-f", path]);
        self.output()
    }

    /// Runs statements.
    pub(crate) fn command(mut self, sql: &str) -> PsqlOutput {
        self.command.args(["--quiet", "-c", sql]);
        self.output()
    }

    fn output(mut self) -> PsqlOutput {
        let output = self.command.output().unwrap_or_else(|error| {
            panic!("psql does not run ({error}): install postgresql-client");
        });
        PsqlOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The result of a run of psql.
#[derive(Debug)]
pub(crate) struct PsqlOutput {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl PsqlOutput {
    /// Panics with psql's output unless it succeeded.
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "psql failed: {}", self.stderr);
        self
    }

    /// Panics unless psql failed, and returns what it wrote to standard error.
    pub(crate) fn failure(self) -> String {
        assert!(
            !self.status.success(),
            "psql succeeded: {}{}",
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}
