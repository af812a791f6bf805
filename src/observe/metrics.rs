//! Every metric of the daemon: its name, its meaning and its counter.
//!
//! The stages count; the admin listener reads. `doc/monitoring.md` describes what to watch, and a test keeps the two in sync.
//! Values kept elsewhere, such as the number of open streams, are not counted here but collected when the metrics are read
//! ([`Gauges`]).
//!
//! Nothing here grows with streams, users or time: labels have only the values listed here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use strum::VariantArray;

use super::recent::Recent;
use crate::model::database_session::DatabaseSession;
use crate::model::sign_in::Refusal;

/// The prefix of all names.
const PREFIX: &str = "icinga_desktop";

/// Upper bounds of the latency buckets, in seconds. An event takes about a millisecond (`benches/README.md`); a storm or a slow
/// client takes longer.
pub(super) const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The content type of [`Inner::render`] (OpenMetrics 1.0.0, section 4.1).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counters. Cheap to clone: all clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(Arc<Inner>);

impl std::ops::Deref for Metrics {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A counter per value of one label.
type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters themselves.
#[derive(Debug)]
pub(crate) struct Inner {
    /// When the daemon started to count.
    started: Instant,
    /// Notifications received on our channels.
    pub(crate) notifications: Counter,
    /// Those that could not be parsed.
    pub(crate) notifications_malformed: Counter,
    /// Announced incidents that were dropped because too many waited.
    pub(crate) notifications_overflowed: Counter,
    /// Gaps: times at which bells may have been missed.
    pub(crate) gaps: Counter,
    /// Rows found without a bell.
    pub(crate) rows_without_bell: Counter,
    /// Since when the floor is held back; `None` if it is not.
    floor_held_since: Mutex<Option<Instant>>,
    looks: Labelled,
    /// Events sent to a recipient's broadcast channel.
    pub(crate) events: Counter,
    /// Events written to a stream.
    pub(crate) events_written: Counter,
    /// Those that count as delivered, including those given up.
    pub(crate) events_delivered: Counter,
    /// Those that were not read and wait for another stream.
    pub(crate) events_returned: Counter,
    /// Those that were given up: written several times without a receipt.
    events_unacknowledged: Counter,
    /// Events dropped for lack of room that no replay finds either.
    pub(crate) events_dropped: Counter,
    /// From receiving the bell to the socket of a stream, in seconds.
    latency: Histogram,
    /// Latencies and events without a receipt of the last minutes.
    recent: Mutex<Recent>,
    /// When a pulse last completed the round trip through the database.
    last_round: Mutex<Option<Instant>>,
    /// How often a browser fell behind its broadcast channel or its own queue.
    pub(crate) lags: Counter,
    /// Replays started for browsers with open streams.
    pub(crate) replays: Counter,
    /// Browsers whose streams were ended because their sign-in was no longer valid.
    pub(crate) revoked: Counter,
    outcomes: Labelled,
    returns: Labelled,
    refused: Labelled,
    postponed: Labelled,
    reconnects: Labelled,
}

/// Why the resolver looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Cause {
    /// The bell rang.
    Bell,
    /// Transactions were running when it rang.
    Running,
    /// The interval was over.
    Interval,
    /// Bells may have been missed.
    Gap,
}

/// Why a browser is asked to come back later although its request is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Postponed {
    /// The database did not answer.
    Database,
    /// The daemon has its maximum number of streams.
    Full,
    /// The daemon is stopping.
    Stopping,
    /// The browser has two streams.
    ThirdStream,
}

/// How a request for a stream proves what its browser has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Proof {
    /// By the id that it sends.
    Id,
    /// By its time, which only a browser knows that has read the end of a stream.
    Time,
    /// It proves nothing.
    None,
}

/// Values kept elsewhere, collected when the metrics are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    /// Whether the daemon is ready.
    pub(crate) ready: bool,
    /// Open streams.
    pub(crate) streams: usize,
    /// The maximum number of streams.
    pub(crate) max_streams: usize,
    /// Contacts with open streams.
    pub(crate) users: usize,
    /// Whether the listener, query and sign-in sessions work.
    pub(crate) database: [bool; 3],
    /// The number of triggers that are missing or disabled.
    pub(crate) missing_triggers: usize,
}

/// The variants of an enum as values of a label.
fn values<T: VariantArray + Copy + Into<&'static str>>() -> impl Iterator<Item = &'static str> {
    T::VARIANTS.iter().copied().map(Into::into)
}

/// Counters for these values of a label. They exist as 0 from the start, because a rate needs a value before the first count.
fn labelled(label: &'static str, values: impl Iterator<Item = &'static str>) -> Labelled {
    let family = Labelled::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

impl Default for Inner {
    fn default() -> Self {
        let outcomes = Labelled::default();
        // Looked up once: counting an event is then an addition without a map look-up.
        let outcome = |name| outcomes.get_or_create_owned(&[("outcome", name)]);
        Self {
            started: Instant::now(),
            notifications: Counter::default(),
            notifications_malformed: Counter::default(),
            notifications_overflowed: Counter::default(),
            gaps: Counter::default(),
            rows_without_bell: Counter::default(),
            floor_held_since: Mutex::default(),
            looks: labelled("cause", values::<Cause>()),
            events: outcome("published"),
            events_written: outcome("written"),
            events_delivered: outcome("delivered"),
            events_returned: outcome("returned"),
            events_unacknowledged: outcome("unacknowledged"),
            events_dropped: outcome("dropped"),
            latency: Histogram::new(LATENCY_BUCKETS),
            recent: Mutex::new(Recent::new(Instant::now())),
            last_round: Mutex::default(),
            lags: Counter::default(),
            replays: Counter::default(),
            revoked: Counter::default(),
            refused: labelled("reason", values::<Refusal>()),
            returns: labelled("proof", values::<Proof>()),
            postponed: labelled("reason", values::<Postponed>()),
            reconnects: labelled("session", values::<DatabaseSession>()),
            outcomes,
        }
    }
}

impl Inner {
    /// How long the daemon has been counting.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a look.
    pub(crate) fn look(&self, cause: Cause) {
        self.looks.get_or_create(&[("cause", cause.into())]).inc();
    }

    /// Sets since when the floor is held back; `None` if it is not.
    pub(crate) fn floor_held_since(&self, since: Option<Instant>) {
        *self.floor_held_since.lock() = since;
    }

    /// Records that a pulse completed the round trip: statement, server, listener.
    pub(crate) fn pulse_received(&self) {
        *self.last_round.lock() = Some(Instant::now());
    }

    /// The time since the last pulse in seconds; `None` if there was none.
    pub(crate) fn round_age(&self) -> Option<f64> {
        self.last_round
            .lock()
            .map(|round| round.elapsed().as_secs_f64())
    }

    /// Records the latency of an event whose bell was received at that time.
    pub(crate) fn latency_since(&self, received_at: Instant) {
        let now = Instant::now();
        let seconds = now.duration_since(received_at).as_secs_f64();
        self.latency.observe(seconds);
        self.recent.lock().latency(now, seconds);
    }

    /// The latency in seconds that 95 % of the events of the last five minutes did not exceed; `None` without events.
    pub(crate) fn latency_p95(&self) -> Option<f64> {
        self.recent.lock().latency_p95(Instant::now())
    }

    /// Counts events that are given up without a receipt.
    pub(crate) fn give_up(&self, events: usize) {
        self.events_unacknowledged.inc_by(events as u64);
        self.recent.lock().unacknowledged(Instant::now(), events);
    }

    /// How many events were given up in the last five minutes.
    pub(crate) fn given_up(&self) -> usize {
        self.recent.lock().events_unacknowledged(Instant::now())
    }

    /// Counts a refused request.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refused
            .get_or_create(&[("reason", refusal.into())])
            .inc();
    }

    /// Counts a request for a stream of a registered browser, whether it is accepted or not.
    pub(crate) fn returned(&self, proof: Proof) {
        self.returns.get_or_create(&[("proof", proof.into())]).inc();
    }

    /// Counts a browser that was asked to come back later.
    pub(crate) fn postpone(&self, why: Postponed) {
        self.postponed
            .get_or_create(&[("reason", why.into())])
            .inc();
    }

    /// Counts a lost database session.
    pub(crate) fn reconnect(&self, session: DatabaseSession) {
        self.reconnects
            .get_or_create(&[("session", session.into())])
            .inc();
    }

    /// All metrics in the format of [`CONTENT_TYPE`].
    ///
    /// # Errors
    ///
    /// Never in practice: writing to a `String` cannot fail.
    pub(crate) fn render(&self, gauges: &Gauges) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry(gauges))?;
        Ok(text)
    }

    /// Built for each reading, which is rare and takes microseconds: so no state has to be kept in sync.
    fn registry(&self, gauges: &Gauges) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "build",
            "The program",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "ready",
            "Whether the daemon is ready, as /health/ready answers",
            ConstGauge::new(u64::from(gauges.ready)),
        );
        registry.register(
            "streams",
            "Open streams",
            ConstGauge::new(gauges.streams as u64),
        );
        registry.register(
            "streams_limit",
            "Maximum number of open streams, from the limit on open files",
            ConstGauge::new(gauges.max_streams as u64),
        );
        registry.register(
            "users",
            "Contacts with open streams",
            ConstGauge::new(gauges.users as u64),
        );
        self.register_database(&mut registry, gauges);
        self.register_notifications(&mut registry);
        self.register_events(&mut registry);
        self.register_requests(&mut registry);
        registry
    }

    /// The database sessions.
    fn register_database(&self, registry: &mut Registry, gauges: &Gauges) {
        let up = Family::<[(&str, &str); 1], prometheus_client::metrics::gauge::Gauge>::default();
        for (session, is_up) in DatabaseSession::VARIANTS.iter().zip(gauges.database) {
            up.get_or_create(&[("session", session.into())])
                .set(is_up.into());
        }
        registry.register(
            "database_up",
            "Whether a session with the database works",
            up,
        );
        registry.register(
            "database_reconnects",
            "Database sessions that were lost and reconnected",
            self.reconnects.clone(),
        );
        registry.register(
            "triggers_missing",
            "Triggers that are missing or disabled",
            ConstGauge::new(gauges.missing_triggers as u64),
        );
    }

    /// What was received.
    fn register_notifications(&self, registry: &mut Registry) {
        registry.register(
            "notifications",
            "Notifications received from PostgreSQL, including the daemon's own pulse",
            self.notifications.clone(),
        );
        registry.register(
            "notifications_malformed",
            "Notifications that were malformed and ignored",
            self.notifications_malformed.clone(),
        );
        registry.register(
            "notifications_overflowed",
            "Announced changes of incidents that were dropped because too many waited",
            self.notifications_overflowed.clone(),
        );
        registry.register(
            "gaps",
            "Times at which notifications may have been missed and the table was looked at",
            self.gaps.clone(),
        );
        registry.register("looks", "Looks at the table, by cause", self.looks.clone());
        registry.register(
            "rows_without_bell",
            "Rows that a look on the interval found without a bell",
            self.rows_without_bell.clone(),
        );
        let held = self.floor_held_since.lock().map(|since| since.elapsed());
        registry.register_with_unit(
            "floor_age",
            "How long an open transaction has held back the floor, up to which all rows are known",
            Unit::Seconds,
            ConstGauge::new(held.unwrap_or_default().as_secs_f64()),
        );
    }

    /// What happened to events.
    fn register_events(&self, registry: &mut Registry) {
        registry.register("events", "Events, by outcome", self.outcomes.clone());
        registry.register_with_unit(
            "event_latency",
            "From receiving the bell, which PostgreSQL sends at the commit, to the socket of a stream",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register("lags", "Times a browser fell behind", self.lags.clone());
        registry.register(
            "replays",
            "Replays for browsers with open streams, after a gap or a lag",
            self.replays.clone(),
        );
    }

    /// Requests and revoked sign-ins.
    fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "returns",
            "Requests for a stream, of known browsers, by how they proved what the browser has read",
            self.returns.clone(),
        );
        registry.register(
            "refused",
            "Requests refused with 204, after which a browser does not reconnect",
            self.refused.clone(),
        );
        registry.register(
            "postponed",
            "Requests answered with a time after which to come back",
            self.postponed.clone(),
        );
        registry.register(
            "revoked",
            "Browsers whose streams were ended because their sign-in was no longer valid",
            self.revoked.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        let gauges = Gauges {
            ready: false,
            streams: 312,
            max_streams: 1000,
            users: 57,
            database: [true, false, true],
            missing_triggers: 2,
        };
        metrics.render(&gauges).unwrap()
    }

    #[test]
    fn every_label_exists_from_the_start_and_none_is_added() {
        let metrics = Metrics::default();
        let before = rendered(&metrics).lines().count();
        for refusal in Refusal::VARIANTS {
            metrics.refuse(*refusal);
        }
        for proof in Proof::VARIANTS {
            metrics.returned(*proof);
        }
        for why in Postponed::VARIANTS {
            metrics.postpone(*why);
        }
        for session in DatabaseSession::VARIANTS {
            metrics.reconnect(*session);
        }
        for cause in Cause::VARIANTS {
            metrics.look(*cause);
        }
        let text = rendered(&metrics);
        assert_eq!(text.lines().count(), before, "{text}");
        for counter in [
            "refused_total{reason=\"no_cookie\"}",
            "refused_total{reason=\"malformed\"}",
            "refused_total{reason=\"unknown_session\"}",
            "refused_total{reason=\"user_agent\"}",
            "refused_total{reason=\"superseded\"}",
            "refused_total{reason=\"no_contact\"}",
            "postponed_total{reason=\"third_stream\"}",
            "returns_total{proof=\"id\"}",
            "returns_total{proof=\"time\"}",
            "returns_total{proof=\"none\"}",
            "postponed_total{reason=\"database\"}",
            "postponed_total{reason=\"full\"}",
            "postponed_total{reason=\"stopping\"}",
            "looks_total{cause=\"bell\"}",
            "looks_total{cause=\"running\"}",
            "looks_total{cause=\"interval\"}",
            "looks_total{cause=\"gap\"}",
            "database_reconnects_total{session=\"listener\"}",
            "database_reconnects_total{session=\"query\"}",
            "database_reconnects_total{session=\"sign-in\"}",
        ] {
            let line = format!("icinga_desktop_{counter} 1");
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }

    #[test]
    fn values_kept_elsewhere_are_shown_as_set() {
        let text = rendered(&Metrics::default());
        for line in [
            "icinga_desktop_ready 0",
            "icinga_desktop_streams 312",
            "icinga_desktop_streams_limit 1000",
            "icinga_desktop_users 57",
            "icinga_desktop_triggers_missing 2",
            "icinga_desktop_database_up{session=\"listener\"} 1",
            "icinga_desktop_database_up{session=\"query\"} 0",
            "icinga_desktop_database_up{session=\"sign-in\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
