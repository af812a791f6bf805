//! Exit codes.

use std::process::ExitCode;

/// How the program ends. Service managers act on these, so they are fixed. A wrong command line ends with 2, which is
/// clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop.
    Stopped,
    /// Something failed while running; a restart may help.
    Failed,
    /// The configuration or the database's installation has to be changed first; a restart does not
    /// help. `EX_CONFIG` of sysexits.h.
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
