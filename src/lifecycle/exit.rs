//! Exit codes.

use std::process::ExitCode;

/// How the program ends. The codes are fixed, because service managers act on them. clap exits with 2 after a wrong command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The daemon was stopped by a signal, or a command succeeded.
    Stopped,
    /// A failure; a restart may help.
    Failed,
    /// The configuration or the installation in the database has to be corrected first; a restart does not help. `EX_CONFIG` of
    /// sysexits.h.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Stopped => 0,
            Exit::Failed => 1,
            Exit::Config => 78,
        })
    }
}
