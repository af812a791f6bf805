//! From start to stop: what is built in which order, what ends it, and with which exit code.

mod capacity;
mod exit;
mod ready;
mod reload;
mod status;
mod stop;
mod tasks;

use std::sync::Arc;

use futures::future;
use log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::capacity::{Capacity, capacity};
use self::ready::say_when_ready;
use self::reload::reload;
use self::stop::{STORE, farewell};
use self::tasks::{died, first_death, named};
use crate::ask::{self, Answerer};
use crate::auth::{Rechecks, SignIns};
use crate::config::{self, Config, Loaded};
use crate::database::{Connector, Keeper};
use crate::deliver::Replayer;
use crate::http::admin::{self, Admin};
use crate::http::{self, State};
use crate::hub::{Hub, Positions};
use crate::listen::{Expected, Listener, Outlets, Pulse};
use crate::model::database_session::DatabaseSession;
use crate::net::Listeners;
use crate::observe::metrics::Metrics;
use crate::resolve::{self, Resolver};
use crate::systemd;

pub use exit::Exit;

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
    let (queue, received) = mpsc::channel(resolve::QUEUE);
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
    let status = status::report(hub.clone(), heard);
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
