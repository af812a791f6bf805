//! Everything that can fail before the daemon starts: TLS files, signals, sockets.

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
    /// The TLS files of the resource cannot be used.
    #[error(transparent)]
    Connector(#[from] ConnectError),
    /// Signal handlers cannot be installed.
    #[error("cannot install signal handlers: {0}")]
    Signals(#[from] io::Error),
    /// No socket could be bound.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The first connection found that the installation cannot be used.
    #[error(transparent)]
    Installation(#[from] installation::Error),
}

impl StartError {
    /// Logs the error. Returns the exit code, which says whether a restart may help.
    pub(super) fn give_up(&self) -> Exit {
        error!("{self}");
        match self {
            Self::Connector(_) | Self::Installation(_) => Exit::Config,
            Self::Signals(_) | Self::Listen(_) => Exit::Failed,
        }
    }
}

/// The signals that stop the daemon.
pub(super) struct StopSignals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
}

/// Everything opened before the start.
pub(super) struct Opened {
    pub(super) connector: Connector,
    pub(super) stop_signals: StopSignals,
    /// The signal to reload the configuration.
    pub(super) hangup: Signal,
    pub(super) capacity: Capacity,
    pub(super) listeners: Listeners,
    pub(super) admin: Option<Listeners>,
}

impl Opened {
    pub(super) async fn open(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            connector: Connector::new(&config.database)?,
            // First, because a signal during the start must not kill the process without a log line.
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
