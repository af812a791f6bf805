//! Starts the stages in the order of the data, and the channels between them.

use std::sync::Arc;

use futures::future;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open::{Opened, StopSignals};
use super::ready::report_ready;
use super::reload::reload;
use super::status;
use super::tasks::named;
use crate::ask::{self, Answerer};
use crate::auth::{Rechecks, SignIns};
use crate::config::{self, Config, Loaded, Tuning};
use crate::database::{Connector, Keeper, Queries, installation};
use crate::deliver::Replayer;
use crate::http::admin::{self, Admin};
use crate::http::status::Pages;
use crate::http::{self, State};
use crate::hub::{Hub, Positions};
use crate::listen::{Channels, Expected, Listener, Pulse};
use crate::model::database_session::DatabaseSession;
use crate::observe::Health;
use crate::observe::metrics::Metrics;
use crate::resolve::{Bell, Resolver};

/// The query sessions, and the signal to their keepers that they hang.
struct Sessions {
    events: Queries,
    sign_ins: Queries,
    hung: Arc<Notify>,
}

/// The result of the keepers of the query sessions, and the keepers themselves: if they were dropped, other tasks would end and
/// be taken for the cause.
pub(super) type Kept = (Result<(), installation::Error>, [Keeper; 2]);

/// A running daemon.
pub(super) struct Daemon {
    pub(super) hub: Hub,
    /// One task for each browser with streams.
    pub(super) browsers: TaskTracker,
    /// Ends the accept loops.
    pub(super) close: CancellationToken,
    /// Cancelled when positions are final.
    pub(super) store: CancellationToken,
    pub(super) server: JoinHandle<()>,
    pub(super) positions: JoinHandle<()>,
    /// Ends only if the installation in the database cannot be used.
    pub(super) keepers: JoinHandle<Kept>,
    /// All others. None ends by itself.
    pub(super) tasks: JoinSet<&'static str>,
    /// The task that reports readiness.
    pub(super) ready: AbortHandle,
    pub(super) stop_signals: StopSignals,
}

impl Daemon {
    /// Starts all stages.
    pub(super) fn start<L>(opened: Opened, config: Config, load: L) -> Self
    where
        L: Fn() -> Result<Loaded, config::Error> + Send + 'static,
    {
        let Opened {
            connector,
            stop_signals,
            hangup,
            capacity,
            listeners,
            admin,
        } = opened;
        let metrics = Metrics::default();
        let hub = Hub::new(capacity.streams);
        let (sessions, keepers) = keep_sessions(&connector, &metrics);
        let (close, store) = (CancellationToken::new(), CancellationToken::new());
        let browsers = TaskTracker::new();
        let (tune, tuning) = watch::channel(config.daemon.tuning);
        let mut tasks = JoinSet::new();

        let Listening {
            rechecks,
            listening,
            health,
            unchecked,
            ready,
        } = listen_and_resolve(connector, &sessions, &hub, &metrics, &tuning, &mut tasks);
        let state = State::new(
            hub.clone(),
            sessions.sign_ins.clone(),
            Replayer::new(sessions.events.clone(), tuning.clone()),
            rechecks,
            tuning,
            metrics.clone(),
            browsers.clone(),
        );
        let server = http::serve(
            listeners,
            capacity.pending,
            http::routes(state),
            close.clone(),
        );
        if let Some(listeners) = admin {
            let routes = admin::routes(Admin {
                listening: listening.clone(),
                health,
                unchecked,
                events: sessions.events.clone(),
                sign_ins: sessions.sign_ins.clone(),
                hub: hub.clone(),
                metrics,
                pages: Pages::new(close.clone()),
            });
            let server = http::serve(listeners, admin::PENDING, routes, close.clone());
            let _ = tasks.spawn(named("admin", server));
        }
        let reload = reload(hangup, config, load, tune, hub.clone());
        let _ = tasks.spawn(named("reload", reload));
        let _ = tasks.spawn(named("status", status::report(hub.clone(), listening)));
        let positions = Positions::new(hub.clone(), sessions.sign_ins);
        Self {
            server: tokio::spawn(server),
            positions: tokio::spawn(positions.run(store.clone())),
            hub,
            browsers,
            close,
            store,
            keepers,
            tasks,
            ready,
            stop_signals,
        }
    }
}

/// Starts to keep both query sessions open.
fn keep_sessions(connector: &Connector, metrics: &Metrics) -> (Sessions, JoinHandle<Kept>) {
    let hung = Arc::new(Notify::new());
    let keeper = |purpose| {
        Keeper::new(
            connector.clone(),
            purpose,
            Arc::clone(&hung),
            metrics.clone(),
        )
    };
    let (events_keeper, events) = keeper(DatabaseSession::Query);
    let (sign_ins_keeper, sign_ins) = keeper(DatabaseSession::SignIn);
    let keepers = tokio::spawn(async move {
        let result = future::try_join(events_keeper.run(), sign_ins_keeper.run()).await;
        (result.map(|_| ()), [events_keeper, sign_ins_keeper])
    });
    let sessions = Sessions {
        events,
        sign_ins,
        hung,
    };
    (sessions, keepers)
}

/// Handles to the stages that receive and resolve notifications.
struct Listening {
    /// Where to request checks of sign-ins.
    rechecks: Rechecks,
    /// Whether the listener works.
    listening: watch::Receiver<bool>,
    /// The results of looks.
    health: watch::Receiver<Health>,
    /// Whether sign-in checks are failing.
    unchecked: watch::Receiver<bool>,
    /// The task that reports readiness.
    ready: AbortHandle,
}

/// Starts the stages that receive and resolve notifications.
fn listen_and_resolve(
    connector: Connector,
    sessions: &Sessions,
    hub: &Hub,
    metrics: &Metrics,
    tuning: &watch::Receiver<Tuning>,
    tasks: &mut JoinSet<&'static str>,
) -> Listening {
    let bell = Bell::default();
    let (questions, to_answer) = mpsc::channel(ask::QUEUE);
    let (beats_sender, beats) = watch::channel(0);
    let (listening_sender, listening) = watch::channel(false);
    let (rechecks, to_recheck) = Rechecks::new(hub.clone(), listening.clone());
    let (health_sender, health) = watch::channel(Health::default());
    let (failing, unchecked) = watch::channel(false);
    let expected = Expected::default();
    let deaf = Arc::new(Notify::new());
    let channels = Channels {
        bell: bell.clone(),
        rechecks: rechecks.clone(),
        questions,
        beats: beats_sender,
        listening: listening_sender,
    };
    let Sessions {
        events,
        sign_ins,
        hung,
    } = sessions;
    let listener = Listener::new(
        connector,
        channels,
        expected.clone(),
        Arc::clone(&deaf),
        metrics.clone(),
    );
    let pulse = Pulse::new(
        events.clone(),
        expected,
        beats.clone(),
        listening.clone(),
        deaf,
        Arc::clone(hung),
    );
    let resolver = Resolver::new(
        bell,
        events.clone(),
        hub.clone(),
        metrics.clone(),
        tuning.clone(),
        listening.clone(),
        health_sender,
    );
    let revocation = SignIns::new(
        to_recheck,
        sign_ins.clone(),
        events.clone(),
        hub.clone(),
        metrics.clone(),
        tuning.clone(),
        failing,
    );
    let answerer = Answerer::new(to_answer, events.clone(), hub.clone(), health.clone());
    let ready = report_ready(beats, events.clone(), sign_ins.clone(), health.clone());
    let _ = tasks.spawn(named("listener", async { match listener.run().await {} }));
    let _ = tasks.spawn(named("resolver", resolver.run()));
    let _ = tasks.spawn(named("sign-ins", revocation.run()));
    let _ = tasks.spawn(named("pulse", pulse.run()));
    let _ = tasks.spawn(named("questions", answerer.run()));
    let ready = tasks.spawn(named("ready", async { match ready.await {} }));
    Listening {
        rechecks,
        listening,
        health,
        unchecked,
        ready,
    }
}
