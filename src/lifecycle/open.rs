//! What the daemon needs from its surroundings before anything of it runs.

use std::io;

use log::error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;
use super::capacity::{Capacity, capacity};
use crate::config::Config;
use crate::database::{ConnectError, Connector, installation};
use crate::net::{BindError, Listeners};

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The resource's files cannot be used.
    #[error(transparent)]
    Connector(#[from] ConnectError),
    /// The operating system gives no signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[from] io::Error),
    /// There is nothing to listen on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The first connection found that the triggers cannot be used.
    #[error(transparent)]
    Installation(#[from] installation::Error),
}

impl StartError {
    /// Logs it. Returns the exit code that says whether starting again may help.
    pub(super) fn give_up(&self) -> Exit {
        error!("{self}");
        match self {
            Self::Connector(_) | Self::Installation(_) => Exit::Config,
            Self::Signals(_) | Self::Listen(_) => Exit::Failed,
        }
    }
}

/// The signals that end the daemon.
pub(super) struct StopSignals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

/// Everything that could fail before the start.
pub(super) struct Opened {
    pub(super) connector: Connector,
    pub(super) stop_signals: StopSignals,
    /// Asks to read the configuration again.
    pub(super) hangup: Signal,
    pub(super) capacity: Capacity,
    pub(super) listeners: Listeners,
    pub(super) admin: Option<Listeners>,
}

impl Opened {
    pub(super) async fn open(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            connector: Connector::new(&config.database)?,
            // Before anything that takes time: one that comes while we start must not kill without a word.
            stop_signals: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
            capacity: capacity(),
            listeners: Listeners::open(&config.daemon).await?,
            admin: match &config.daemon.admin {
                Some(address) => Some(Listeners::bind_admin(address).await?),
                None => None,
            },
        })
    }
}
