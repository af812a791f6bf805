//! From start to stop: what is built in which order, what ends it, and with which exit code.

use std::process::ExitCode;
use std::time::Duration;

use log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::database::Connector;
use crate::http::{self, State};
use crate::hub::Hub;
use crate::listener::{self, Listener};
use crate::metrics::Metrics;
use crate::queries::Keeper;
use crate::resolver::Resolver;

/// How the program ends. Service managers act on these, so they are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Asked to stop.
    Stopped,
    /// Something failed while running; a restart may help.
    Failed,
    /// The command line was wrong.
    Usage,
    /// The configuration or the database's installation has to be changed first; a restart does not
    /// help. `EX_CONFIG` of sysexits.h.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Stopped => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 78,
        })
    }
}

/// How long streams may take to say farewell at a stop.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the daemon until it is asked to stop or cannot go on.
pub async fn run(config: &Config) -> Exit {
    let connector = match Connector::new(&config.database) {
        Ok(connector) => connector,
        Err(error) => {
            error!("{error}");
            return Exit::Config;
        }
    };
    // Signals first: one that comes while we start must not kill without a word.
    let (mut terminate, mut interrupt) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            error!("cannot wait for signals: {error}");
            return Exit::Failed;
        }
    };
    let listener = match http::Listener::bind(&config.daemon).await {
        Ok(listener) => listener,
        Err(error) => {
            error!("{error}");
            return Exit::Failed;
        }
    };

    let metrics = Metrics::default();
    let hub = Hub::default();
    let (keeper, queries) = Keeper::new(connector.clone());
    let (sender, receiver) = mpsc::channel(listener::QUEUE);
    let (hears, mut heard) = watch::channel(false);
    let state = State::new(hub.clone(), queries.clone(), metrics.clone());

    let mut server = tokio::spawn(http::serve(listener, http::routes(state)));
    let mut keeper = tokio::spawn(keeper.run());
    let mut ears = tokio::spawn(Listener::new(connector, sender, hears, metrics.clone()).run());
    let mut resolver =
        tokio::spawn(Resolver::new(receiver, queries.clone(), hub.clone(), metrics).run());
    let ready = async move {
        let mut queries = queries;
        if heard.wait_for(|hears| *hears).await.is_ok() && queries.session().await.is_some() {
            info!("ready: listening for notifications and serving streams");
        }
        std::future::pending::<()>().await;
    };

    // None of these tasks ends by itself, except for the keeper when there is nothing to keep.
    let exit = tokio::select! {
        _ = terminate.recv() => Exit::Stopped,
        _ = interrupt.recv() => Exit::Stopped,
        result = &mut keeper => {
            match result {
                Ok(Err(error)) => {
                    error!("{error}");
                    Exit::Config
                }
                Ok(Ok(())) => died("query session", "it returned"),
                Err(error) => died("query session", &error.to_string()),
            }
        }
        result = &mut ears => match result { Err(error) => died("listener", &error.to_string()) },
        result = &mut resolver => died("resolver", &result.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())),
        result = &mut server => died("HTTP server", &result.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())),
        () = ready => Exit::Failed,
    };
    if !server.is_finished() {
        // Awaited, because a Unix socket is removed when the server is gone.
        server.abort();
        let _ = server.await;
    }
    farewell(&hub).await;
    if exit == Exit::Stopped {
        info!("stopped");
    }
    exit
}

fn died(task: &str, reason: &str) -> Exit {
    error!(
        "the {task} task ended unasked ({reason}): stopping, so that the service manager starts anew"
    );
    Exit::Failed
}

/// Ends all streams and waits until they are closed, but not for ever.
async fn farewell(hub: &Hub) {
    let streams = hub.streams();
    hub.stop();
    if streams > 0 {
        info!("stopping: ending {streams} streams");
    }
    let deadline = Instant::now() + FAREWELL;
    while hub.streams() > 0 {
        if Instant::now() >= deadline {
            warn!(
                "{} streams did not take their farewell and are cut",
                hub.streams()
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
