//! From start to stop: what is built in which order, what ends it, and with which exit code.

use std::convert::Infallible;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use log::{error, info, warn};
use rand::RngExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::ask::{self, Answerer};
use crate::auth::{Rechecks, SignIns};
use crate::config::{self, Config, Loaded, Tuning};
use crate::database::Connector;
use crate::database::{Keeper, Queries};
use crate::deliver::Replayer;
use crate::http::admin::{self, Admin};
use crate::http::{self, State};
use crate::hub::Hub;
use crate::hub::Positions;
use crate::listen::{self, Listener, Outlets};
use crate::listen::{Expected, Pulse};
use crate::net::Listeners;
use crate::observe::metrics::{DatabaseSession, Metrics};
use crate::resolve::Resolver;
use crate::systemd;

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

/// When browsers come back after a stop, in milliseconds: a restarted daemon is there by then, and they
/// do not come all at once.
const COME_BACK_MS: std::ops::Range<u32> = 1000..6000;

/// How long the last positions may take to be stored.
const STORE: Duration = Duration::from_secs(1);

/// How long the service manager is kept waiting for a start to be over: `systemctl start` and the boot shall not hang
/// because the database is away, while browsers are answered and told to come back.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the daemon until it is asked to stop or cannot go on. SIGHUP makes it `load` its configuration again.
pub async fn run<L>(config: Config, load: L) -> Exit
where
    L: Fn() -> Result<Loaded, config::Error> + Send + 'static,
{
    let connector = match Connector::new(&config.database) {
        Ok(connector) => connector,
        Err(error) => {
            error!("{error}");
            return Exit::Config;
        }
    };
    // Signals first: one that comes while we start must not kill without a word.
    let (mut terminate, mut interrupt, hangup) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) {
        (Ok(terminate), Ok(interrupt), Ok(hangup)) => (terminate, interrupt, hangup),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            error!("cannot wait for signals: {error}");
            return Exit::Failed;
        }
    };
    let Capacity { streams, pending } = capacity();
    let listener = match Listeners::open(&config.daemon).await {
        Ok(listener) => listener,
        Err(error) => {
            error!("{error}");
            return Exit::Failed;
        }
    };
    let admin = match config.daemon.admin.map(Listeners::bind_admin).transpose() {
        Ok(admin) => admin,
        Err(error) => {
            error!("{error}");
            return Exit::Failed;
        }
    };

    let metrics = Metrics::default();
    let hub = Hub::new(streams);
    let hung = Arc::new(Notify::new());
    let (events_keeper, events) = Keeper::new(
        connector.clone(),
        DatabaseSession::Query,
        Arc::clone(&hung),
        metrics.clone(),
    );
    let (sign_ins_keeper, sessions) = Keeper::new(
        connector.clone(),
        DatabaseSession::SignIn,
        Arc::clone(&hung),
        metrics.clone(),
    );
    let (queue, received) = mpsc::channel(listen::QUEUE);
    let (rechecks, to_recheck) = Rechecks::new();
    let (questions, to_answer) = mpsc::channel(ask::QUEUE);
    let (beats, beaten) = watch::channel(0);
    let (hears, heard) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();
    let expected = Expected::default();
    let deaf = Arc::new(Notify::new());
    let outlets = Outlets {
        queue,
        rechecks: rechecks.clone(),
        questions,
        beats,
        hears,
    };
    let ears = Listener::new(
        connector,
        outlets,
        expected.clone(),
        Arc::clone(&deaf),
        metrics.clone(),
    );
    let resolver = Resolver::new(received, events.clone(), hub.clone(), metrics.clone());
    let sign_ins = SignIns::new(to_recheck, sessions.clone(), hub.clone(), metrics.clone());
    let pulse = Pulse::new(
        events.clone(),
        expected,
        beaten.clone(),
        heard.clone(),
        deaf,
        hung,
    );
    let (tune, tuning) = watch::channel(config.daemon.tuning);
    let replayer = Replayer::new(events.clone(), tuning.clone());
    let state = State::new(
        hub.clone(),
        sessions.clone(),
        replayer,
        rechecks,
        tuning,
        metrics.clone(),
    );
    let answerer = Answerer::new(to_answer, events.clone(), hub.clone());

    let positions = tokio::spawn(Positions::new(hub.clone(), sessions.clone()).run(stopped));
    let (close, closed) = watch::channel(false);
    let mut server = tokio::spawn(http::serve(
        listener,
        pending,
        http::routes(state),
        closed.clone(),
    ));
    let mut keepers = tokio::spawn(async move {
        let result = future::try_join(events_keeper.run(), sign_ins_keeper.run()).await;
        // Handed back: without its keeper a task ends, and would be taken for the cause.
        (result, events_keeper, sign_ins_keeper)
    });
    let mut tasks = JoinSet::new();
    let _ = tasks.spawn(named("listener", async move { match ears.run().await {} }));
    let _ = tasks.spawn(named("resolver", resolver.run()));
    let _ = tasks.spawn(named("sign-ins", sign_ins.run()));
    let _ = tasks.spawn(named("pulse", pulse.run()));
    let _ = tasks.spawn(named("questions", answerer.run()));
    if let Some(listener) = admin {
        let routes = admin::routes(Admin {
            hears: heard.clone(),
            events: events.clone(),
            sign_ins: sessions.clone(),
            hub: hub.clone(),
            metrics,
        });
        let server = http::serve(listener, admin::PENDING, routes, closed.clone());
        let _ = tasks.spawn(named("admin", server));
    }
    let _ = tasks.spawn(named(
        "reload",
        reload(hangup, config, load, tune, hub.clone()),
    ));
    let status = systemd::report(hub.clone(), heard);
    let _ = tasks.spawn(named("status", status));
    let ready = say_when_ready(beaten, events, sessions);

    // None of these ends by itself, except for the keepers when there is nothing to keep.
    let exit = tokio::select! {
        _ = terminate.recv() => Exit::Stopped,
        _ = interrupt.recv() => Exit::Stopped,
        result = &mut keepers => match result {
            Ok((Err(error), ..)) => {
                error!("{error}");
                Exit::Config
            }
            Ok((Ok(_), ..)) => died("query sessions"),
            Err(error) => died(&error.to_string()),
        },
        exit = first_death(&mut tasks) => exit,
        result = &mut server => match result {
            Ok(()) => died("HTTP server"),
            Err(error) => died(&error.to_string()),
        },
        never = ready => match never {},
    };
    systemd::stopping();
    // Nobody waits for it if the server has died.
    let _ = close.send(true);
    if server.is_finished() {
        farewell(&hub).await;
    } else {
        // Awaited, because a Unix socket is removed when the server is gone, and because it has requests to answer.
        let _ = tokio::join!(server, farewell(&hub));
    }
    // If it is gone, so is what it would have done.
    let _ = stop.send(());
    if timeout(STORE, positions).await.is_err() {
        warn!(
            "positions could not be stored in time: browsers may be told again what they were told last"
        );
    }
    if exit == Exit::Stopped {
        info!("stopped");
    }
    exit
}

/// A task that says which one it was when it ends.
async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Says so in the log once notifications are heard and browsers can be let in, and to the service manager then or when
/// its patience is at an end.
async fn say_when_ready(
    mut beats: watch::Receiver<u64>,
    mut events: Queries,
    mut sessions: Queries,
) -> Infallible {
    let ready = async {
        // A pulse went all the way: nothing proves more.
        beats.wait_for(|beats| *beats > 0).await.is_ok()
            && events.session().await.is_some()
            && sessions.session().await.is_some()
    };
    let mut ready = pin!(ready);
    let early = timeout(READY_PATIENCE, &mut ready).await;
    systemd::ready();
    let is_ready = match early {
        Ok(is_ready) => is_ready,
        Err(_) => {
            warn!(
                "not ready after {READY_PATIENCE:?}: browsers are told to come back until the database answers"
            );
            ready.await
        }
    };
    if is_ready {
        info!("ready: listening for notifications and serving streams");
    }
    future::pending().await
}

/// Applies the configuration anew at each SIGHUP, as far as that is possible while streams are open.
async fn reload<L>(
    mut hangup: Signal,
    config: Config,
    load: L,
    tune: watch::Sender<Tuning>,
    hub: Hub,
) where
    L: Fn() -> Result<Loaded, config::Error> + Send + 'static,
{
    while hangup.recv().await.is_some() {
        systemd::reloading();
        match load() {
            Ok(Loaded {
                config: mut new,
                warnings,
            }) => {
                for warning in warnings {
                    warn!("{warning}");
                }
                tune.send_replace(new.daemon.tuning);
                hub.retune();
                info!("reloaded: what [daemon] says of keep-alives and replays is in force");
                new.daemon.tuning = config.daemon.tuning;
                if new != config {
                    warn!(
                        "other settings have changed as well, where to listen or the database: they take effect \
                         at a restart"
                    );
                }
            }
            Err(error) => {
                error!("not reloaded, the settings stay as they were: {error}");
            }
        }
        systemd::ready();
    }
}

/// Waits for one of `tasks` to end, which none ever does by itself.
async fn first_death(tasks: &mut JoinSet<&'static str>) -> Exit {
    match tasks.join_next().await {
        Some(Ok(task)) => died(task),
        Some(Err(error)) => died(&error.to_string()),
        None => died("all"),
    }
}

fn died(task: &str) -> Exit {
    error!("a task ended unasked ({task}): stopping, so that the service manager starts anew");
    Exit::Failed
}

/// How many connections the daemon holds.
struct Capacity {
    /// As streams.
    streams: usize,
    /// That are none, or not yet.
    pending: u32,
}

/// File descriptors for everything that is no connection of a client.
const RESERVED_FILES: usize = 64;

/// Connections without a stream, at most: they live for ten seconds and a sign-in.
const MAX_PENDING: u32 = 4096;

/// Raises the limit on open files as far as it goes, and divides it up.
fn capacity() -> Capacity {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!("cannot raise the limit on open files: {error}");
            limit.current
        }
    };
    // No limit at all: then memory is one.
    let files = current.map_or(1 << 20, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let usable = files.saturating_sub(RESERVED_FILES);
    let pending =
        u32::try_from(usable / 4).map_or(MAX_PENDING, |pending| pending.clamp(1, MAX_PENDING));
    let streams = usable.saturating_sub(pending as usize);
    info!("room for {streams} streams (limit on open files: {files}; with systemd: LimitNOFILE=)");
    Capacity { streams, pending }
}

/// Ends all streams and waits until they are closed, but not for ever.
async fn farewell(hub: &Hub) {
    let streams = hub.streams();
    hub.stop(|| rand::rng().random_range(COME_BACK_MS));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_that_ends_takes_the_daemon_down() {
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(named("endless", future::pending()));
        let _ = tasks.spawn(named("brief", future::ready(())));
        assert_eq!(first_death(&mut tasks).await, Exit::Failed);
    }

    #[tokio::test]
    async fn so_does_one_that_panics() {
        let mut tasks = JoinSet::new();
        let _ = tasks.spawn(named("endless", future::pending()));
        let _ = tasks.spawn(named("clumsy", async { panic!("as a test wants it") }));
        assert_eq!(first_death(&mut tasks).await, Exit::Failed);
    }
}
