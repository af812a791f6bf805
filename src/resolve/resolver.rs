//! The resolver: looks at the tables, and publishes what is new.
//!
//! It looks when the bell rings, and again until every transaction that was running then has ended: one of them may have
//! committed rows without ringing because another rang. It also looks at an interval, so a lost bell only delays events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, error, info, warn};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::bell::{Bell, Rung};
use super::fold::{Fold, Folded};
use super::gaps::Gaps;
use super::recent::Recent;
use crate::config::Tuning;
use crate::database::installation::INSTALL;
use crate::database::{HistoryRow, Kind, Notified, Queries, QueryError, Recipient, Session};
use crate::hub::Hub;
use crate::model::event::{Content, Event, Rendered};
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::snapshot::Snapshot;
use crate::model::timeline::{Epoch, Timeline};
use crate::observe::metrics::{Cause, Metrics};
use crate::observe::{Health, Throttle};

/// Time between two looks without a bell: the maximum delay of an event whose bell was lost.
const INTERVAL: Duration = Duration::from_secs(5);

/// The shortest pause after a look that saw running transactions. Without a bell, the next look also waits for this time, and
/// then each time twice as long.
const FIRST_FOLLOW_UP: Duration = Duration::from_millis(5);

/// The pause after a look, as a multiple of the look's duration: if others write all the time, looks take a ninth of a processor
/// and leave the rest to the writers.
const PAUSE_FACTOR: u32 = 8;

/// The longest pause: it delays events by no more than this.
const PAUSE_CAP: Duration = Duration::from_millis(12);

/// Time between two checks of the triggers.
const TRIGGERS_INTERVAL: Duration = Duration::from_secs(60);

/// Pause after a look that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Rows, and incidents, on the first page of a look: the first recipients do not wait for the last. Each further page has twice as
/// many as the one before, because what a browser receives from one page is written to it at once.
const FIRST_PAGE: i64 = 500;

/// The maximum on a page: twice as many gained nothing (`benches/README.md`, `incidents`), and streams wait while they are
/// published.
const MAX_PAGE: i64 = 4000;

/// How far below the newest id the first look begins. Assumes that no transaction stays open while others write this many rows.
const UNSETTLED_IDS: i64 = 1000;

/// The maximum number of incidents per query for recipients.
const BATCH: usize = 500;

/// What was seen in one epoch and timeline.
#[derive(Debug)]
struct Seen {
    timeline: Option<Timeline>,
    epoch: Epoch,
    history: Gaps,
    incidents: Gaps,
    /// Changes of severities were read ahead up to this row.
    changes_read: HistoryId,
    /// The newest history row of the first look: a floor below it does not say what was published.
    first: i64,
    /// The server's clock at the last look, in milliseconds since the epoch of Unix.
    looked_at_ms: i64,
}

/// What a look found.
struct Looked {
    snapshot: Snapshot,
    rows: Vec<HistoryRow>,
    /// New incidents without history among the rows.
    incidents: Vec<IncidentId>,
    /// A page was full: there may be more to read.
    full: bool,
}

/// The result of a look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Rows,
    /// Rows, and there may be more to read at once.
    Page,
}

/// Transactions that may commit without ringing.
#[derive(Debug)]
struct Awaited {
    transactions: Vec<u64>,
    /// Time from the last look to the next one.
    delay: Duration,
}

/// The resolver's task.
#[derive(Debug)]
pub(crate) struct Resolver {
    bell: Bell,
    queries: Queries,
    hub: Hub,
    metrics: Metrics,
    tuning: watch::Receiver<Tuning>,
    listening: watch::Receiver<bool>,
    health: watch::Sender<Health>,
    seen: Option<Seen>,
    /// The size of the next page.
    page: i64,
    /// The server's clock at the last look before ids restarted, in milliseconds since the Unix epoch. Rows up to that time were
    /// sent under their earlier ids: a restored backup contains them again.
    delivered_until_ms: i64,
    fold: Fold,
    recent: Recent,
    /// Incidents whose recipients have to be queried.
    changed: BTreeSet<IncidentId>,
    /// The transactions that were running when the bell was received.
    awaited: Option<Awaited>,
    /// Rows without a bell so far, written by transactions that were not known to be running.
    unannounced: usize,
    triggers_due: Instant,
    failed: Throttle,
    unrung: Throttle,
}

impl Resolver {
    /// A resolver that takes bells from `bell`, publishes to `hub` and reports its `health`. `listening` is whether the
    /// listener is connected.
    pub(crate) fn new(
        bell: Bell,
        queries: Queries,
        hub: Hub,
        metrics: Metrics,
        tuning: watch::Receiver<Tuning>,
        listening: watch::Receiver<bool>,
        health: watch::Sender<Health>,
    ) -> Self {
        Self {
            bell,
            queries,
            hub,
            metrics,
            tuning,
            listening,
            health,
            seen: None,
            page: FIRST_PAGE,
            delivered_until_ms: i64::MIN,
            fold: Fold::default(),
            recent: Recent::default(),
            changed: BTreeSet::new(),
            awaited: None,
            unannounced: 0,
            triggers_due: Instant::now(),
            failed: Throttle::default(),
            unrung: Throttle::default(),
        }
    }

    /// Runs until the query session's keeper ends.
    pub(crate) async fn run(mut self) {
        let mut cause = Cause::Gap;
        let mut rung = Rung::default();
        let mut held = None;
        let mut silenced = false;
        loop {
            let Some(session) = self.queries.session().await else {
                return;
            };
            self.changed.append(&mut rung.incidents);
            let begun = Instant::now();
            let found = match self.look(&session, cause, &rung).await {
                Ok(found) => found,
                Err(error) => {
                    if let QueryError::Lost(_) | QueryError::OtherIds = error {
                        debug!("repeating a look for new events: {error}");
                        cause = Cause::Gap;
                        continue;
                    }
                    if let Some(more) = self.failed.take() {
                        error!("a look for new events failed, retrying: {error}{more}");
                    }
                    sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            let was_held = held.take().is_some();
            silenced |= was_held;
            if silenced && found != Found::Nothing {
                // Other daemons received no bell either. If this fails, they find the rows at their interval.
                let _ = session.ring_bell().await;
            }
            // Until all transactions that were running while the bell was held have ended.
            silenced &= self.awaited.is_some();
            if found == Found::Page {
                continue;
            }
            let busy = found == Found::Rows && (was_held || self.bell.is_rung());
            held = self.leave_alone(&session, begun.elapsed(), busy).await;
            cause = match held {
                Some(_) => Cause::Bell,
                None => self.wait().await,
            };
            rung = self.bell.take();
            rung.since = rung.since.or(held);
            if rung.gap {
                cause = Cause::Gap;
            }
        }
    }

    /// Pauses after a look, for a multiple of its duration. If several clients write, the bell would ring with each commit, and
    /// each ring costs more than its part of a look. So while they are `busy`, the resolver holds the bell's lock during the
    /// pause. Returns since when it held the lock.
    async fn leave_alone(
        &self,
        session: &Session,
        looked: Duration,
        busy: bool,
    ) -> Option<std::time::Instant> {
        let mut pause = (looked * PAUSE_FACTOR).min(PAUSE_CAP);
        if self.awaited.is_some() {
            pause = pause.max(FIRST_FOLLOW_UP);
        }
        let since = std::time::Instant::now();
        // Without the lock, writers ring as usual.
        let holds = busy && session.hold_bell().await.unwrap_or(false);
        sleep(pause).await;
        if !holds {
            return None;
        }
        if let Err(error) = session.release_bell().await {
            debug!("the bell was not released, the session ends: {error}");
        }
        Some(since)
    }

    /// Waits for the next look. Returns why it is due.
    async fn wait(&self) -> Cause {
        let (delay, cause) = match &self.awaited {
            Some(awaited) => (awaited.delay, Cause::Running),
            None => (INTERVAL, Cause::Interval),
        };
        tokio::select! {
            biased;
            () = self.bell.wait() => Cause::Bell,
            () = sleep(delay) => cause,
        }
    }

    /// Looks once.
    async fn look(
        &mut self,
        session: &Session,
        cause: Cause,
        rung: &Rung,
    ) -> Result<Found, QueryError> {
        self.metrics.look(cause);
        let now = std::time::Instant::now();
        let Some(looked) = self.read(session, now).await? else {
            return Ok(Found::Page);
        };
        let nothing = looked.rows.is_empty() && looked.incidents.is_empty();
        self.recent.saw(&looked.snapshot, now);
        self.count_unannounced(cause, &looked.rows);
        self.await_running(cause, &looked.snapshot);
        // A look can find rows a moment before their bell arrives, or without one.
        let received_at = rung.since.unwrap_or(now);
        self.publish_rows(looked.rows, looked.full, received_at);
        if cause == Cause::Interval {
            self.unannounced += looked.incidents.len();
        }
        self.changed.extend(looked.incidents);
        if session.recipients_problem().is_some() {
            // Soon, to notice when it is fixed.
            self.triggers_due = self.triggers_due.min(Instant::now() + INTERVAL);
        }
        if cause == Cause::Interval && self.unannounced > 0 && *self.listening.borrow() {
            self.without_bell(session).await;
        } else if self.triggers_due <= Instant::now() {
            self.look_for_triggers(session).await;
        }
        self.publish_severity_changes(session, received_at).await?;
        Ok(if looked.full || !self.changed.is_empty() {
            Found::Page
        } else if nothing {
            Found::Nothing
        } else {
            Found::Rows
        })
    }

    /// Reads what is new. `None` if ids restarted: then the caller looks again from the start.
    async fn read(
        &mut self,
        session: &Session,
        now: std::time::Instant,
    ) -> Result<Option<Looked>, QueryError> {
        let looked = match self.read_on(session, now).await {
            Err(QueryError::OtherIds) => None,
            looked => looked?,
        };
        if looked.is_none() {
            self.begin(session, now).await?;
        }
        Ok(looked)
    }

    /// Reads what is new since the last look. `None` if there was none, or ids restarted.
    async fn read_on(
        &mut self,
        session: &Session,
        now: std::time::Instant,
    ) -> Result<Option<Looked>, QueryError> {
        let (kinds, page) = (self.tuning.borrow().notify, self.page);
        let Some(seen) = &mut self.seen else {
            return Ok(None);
        };
        let (newest_row, newest_incident) = (seen.history.newest(), seen.incidents.newest());
        let (young_rows, young_incidents) = (seen.history.young(), seen.incidents.young());
        // Pipelined, in this order: the later statements see all transactions that have ended by the snapshot.
        // Incidents before history: an incident's history is then among the rows.
        let (watermark, mut incidents, mut rows) = futures::try_join!(
            session.watermark(),
            session.new_incidents(newest_incident, page, &young_incidents),
            session.history(&seen.epoch, newest_row, page, &young_rows, kinds),
        )?;
        if seen.epoch != watermark.epoch
            || (watermark.timeline.is_some() && seen.timeline != watermark.timeline)
        {
            return Ok(None);
        }
        let more_rows = is_page(
            page,
            rows.iter().filter(|row| row.history_id.0 > newest_row),
        );
        let more_incidents = is_page(page, incidents.iter().filter(|id| id.0 > newest_incident));
        self.page = if more_rows || more_incidents {
            (page * 2).min(MAX_PAGE)
        } else {
            FIRST_PAGE
        };
        let filled = seen.history.filled(&watermark.snapshot);
        if !filled.is_empty() {
            rows.extend(
                session
                    .history(&seen.epoch, i64::MAX, 0, &filled, kinds)
                    .await?,
            );
            rows.sort_by_key(|row| row.history_id);
        }
        let filled = seen.incidents.filled(&watermark.snapshot);
        if !filled.is_empty() {
            incidents.extend(session.new_incidents(i64::MAX, 0, &filled).await?);
            incidents.sort_unstable();
        }
        let read = std::time::Instant::now();
        // Incidents have their current severity, even if the row of its change was not read yet.
        let mut later = Vec::new();
        if more_rows {
            let last = rows.last().map(|row| row.history_id).unwrap_or_default();
            let beyond = last.max(seen.changes_read);
            (later, seen.changes_read) = session.changes(beyond).await?;
        }
        let ids = rows.iter().map(|row| row.history_id.0);
        seen.history.saw(ids, &watermark.snapshot, now, read);
        rows.extend(later);
        let ids = incidents.iter().map(|id| id.0);
        seen.incidents.saw(ids, &watermark.snapshot, now, read);
        seen.looked_at_ms = watermark.now_ms;
        let of: HashSet<_> = rows.iter().map(|row| row.incident_id).collect();
        incidents.retain(|incident_id| !of.contains(incident_id));
        Ok(Some(Looked {
            snapshot: watermark.snapshot,
            rows,
            incidents,
            full: more_rows || more_incidents,
        }))
    }

    /// Begins with a new epoch or timeline. Replays send the rows that exist; ids missing below the newest may still appear.
    async fn begin(
        &mut self,
        session: &Session,
        now: std::time::Instant,
    ) -> Result<(), QueryError> {
        let newest = session.newest().await?;
        let kinds = self.tuning.borrow().notify;
        let mut history = Gaps::new((newest.history_id.0 - UNSETTLED_IDS).max(0));
        let mut incidents = Gaps::new((newest.incident_id.0 - UNSETTLED_IDS).max(0));
        let watermark = session.watermark().await?;
        loop {
            let (rows, new) = futures::try_join!(
                session.history(&watermark.epoch, history.newest(), MAX_PAGE, &[], kinds),
                session.new_incidents(incidents.newest(), MAX_PAGE, &[]),
            )?;
            let read = std::time::Instant::now();
            let ids = rows.iter().map(|row| row.history_id.0);
            history.saw(ids, &watermark.snapshot, now, read);
            let ids = new.iter().map(|id| id.0);
            incidents.saw(ids, &watermark.snapshot, now, read);
            if !is_page(MAX_PAGE, rows.iter()) && !is_page(MAX_PAGE, new.iter()) {
                break;
            }
        }
        self.recent.saw(&watermark.snapshot, now);
        let delivered_until = self
            .seen
            .as_ref()
            .map_or(watermark.now_ms, |seen| seen.looked_at_ms);
        if self.hub.change_epoch(&watermark.epoch, delivered_until) {
            info!(
                "database: its ids have restarted; browsers receive what is newer than the last look"
            );
            // It holds rows and incidents of the previous epoch.
            self.fold = Fold::default();
            self.delivered_until_ms = delivered_until;
            // Tables that were created again may have none.
            self.triggers_due = Instant::now();
        }
        self.hub.set_newest(HistoryId(history.newest()));
        self.seen = Some(Seen {
            timeline: watermark.timeline,
            epoch: watermark.epoch,
            first: history.newest(),
            changes_read: HistoryId(0),
            history,
            incidents,
            looked_at_ms: watermark.now_ms,
        });
        self.health.send_modify(|health| health.looked = true);
        // Browsers that are connected already replay what came before.
        self.hub.gap();
        Ok(())
    }

    /// Publishes rows. There are more to read if the page is `full`.
    fn publish_rows(
        &mut self,
        mut rows: Vec<HistoryRow>,
        full: bool,
        received_at: std::time::Instant,
    ) {
        for row in &mut rows {
            if matches!(&row.kind, Kind::Notified(notified) if notified.time_ms <= self.delivered_until_ms)
            {
                row.kind = Kind::NotSent;
            }
        }
        let folded = self.fold.fold(rows);
        self.publish(folded, received_at);
        if let Some(seen) = &self.seen {
            let floor = HistoryId(seen.history.floor());
            if !full {
                self.fold.end_look(floor, seen.history.awaits());
            }
            self.hub.set_newest(HistoryId(seen.history.newest()));
            // Last, because browsers that have taken all messages skip replays up to this floor.
            if floor.0 >= seen.first {
                self.hub.settle(floor, seen.timeline.as_ref());
            }
            self.metrics.floor_held_since(seen.history.held_since());
        }
    }

    /// Makes events from rows, and publishes each contact's events together.
    fn publish(&self, folded: Vec<Folded>, received_at: std::time::Instant) {
        let Some((_, epoch)) = self.hub.epoch() else {
            return;
        };
        let mut contacts: HashMap<ContactId, Vec<Arc<Event>>> = HashMap::new();
        let mut last: Option<(IncidentId, Notified, Rendered)> = None;
        for folded in folded {
            let (contact_id, event) = match folded {
                Folded::Covered {
                    history_id,
                    contact_id,
                } => (contact_id, Event::covering(vec![history_id], epoch)),
                Folded::Event { notified, .. } if !self.hub.has(notified.contact_id) => continue,
                Folded::Event {
                    history_ids,
                    incident_id,
                    notified,
                } => {
                    let contact_id = notified.contact_id;
                    // Rows of one incident for several contacts are adjacent and usually have the same content.
                    let same = last.take().filter(|(incident, sent, _)| {
                        *incident == incident_id && sent.has_same_content(&notified)
                    });
                    let (.., rendered) = last.insert(same.unwrap_or_else(|| {
                        let rendered = Rendered::new(&Content {
                            time_ms: notified.time_ms,
                            incident_id,
                            severity: &notified.severity,
                            title: &notified.title,
                            message: notified.message.as_deref(),
                        });
                        (incident_id, notified, rendered)
                    }));
                    let event = Event {
                        received_at: Some(received_at),
                        ..rendered.event(history_ids, epoch)
                    };
                    (contact_id, event)
                }
            };
            contacts
                .entry(contact_id)
                .or_default()
                .push(Arc::new(event));
        }
        self.give(contacts);
    }

    fn give(&self, contacts: HashMap<ContactId, Vec<Arc<Event>>>) {
        for (contact_id, events) in contacts {
            let shown = events.iter().filter(|event| !event.bytes.is_empty());
            let count = shown.count();
            if self.hub.publish(contact_id, events) {
                self.metrics.events.inc_by(count as u64);
            }
        }
    }

    /// Publishes incidents that were changed without Icinga Notifications, at most one batch: many false announcements must not
    /// delay the next look. A failure here affects no other event.
    async fn publish_severity_changes(
        &mut self,
        session: &Session,
        received_at: std::time::Instant,
    ) -> Result<(), QueryError> {
        if self.hub.is_empty() {
            // Without recipients, no query is needed.
            self.changed.clear();
        }
        let Some(first) = self.changed.first().copied() else {
            return Ok(());
        };
        let some: Vec<_> = self.changed.iter().copied().take(BATCH).collect();
        match session.recipients(&some).await {
            Ok(recipients) => self.publish_changed(recipients, received_at),
            Err(error @ QueryError::Lost(_)) => return Err(error),
            Err(error) => {
                error!(
                    "incidents from {first} on were changed without Icinga Notifications, and {} of them are \
                     not shown: {error}",
                    some.len()
                );
            }
        }
        for incident_id in some {
            self.changed.remove(&incident_id);
        }
        Ok(())
    }

    fn publish_changed(&mut self, recipients: Vec<Recipient>, received_at: std::time::Instant) {
        let Some((_, epoch)) = self.hub.epoch() else {
            return;
        };
        let mut by_incident: BTreeMap<(IncidentId, u32), Vec<Recipient>> = BTreeMap::new();
        for recipient in recipients {
            let change = (recipient.incident_id, recipient.transaction);
            by_incident.entry(change).or_default().push(recipient);
        }
        let mut contacts: HashMap<ContactId, Vec<Arc<Event>>> = HashMap::new();
        for ((incident_id, transaction), recipients) in by_incident {
            let Some(first) = recipients.first() else {
                continue;
            };
            if !self.recent.is_new(incident_id, transaction) {
                continue;
            }
            let rendered = Rendered::new(&Content {
                time_ms: jiff::Timestamp::now().as_millisecond(),
                incident_id,
                severity: &first.severity,
                title: &first.title,
                message: first.message.as_deref(),
            });
            let event = Arc::new(Event {
                received_at: Some(received_at),
                ..rendered.event(Vec::new(), epoch)
            });
            for recipient in recipients {
                let events = contacts.entry(recipient.contact_id).or_default();
                events.push(Arc::clone(&event));
            }
        }
        self.give(contacts);
    }

    /// Counts rows for which a bell should have rung. Rows found between bells are excluded if a transaction wrote them that was
    /// known to be running, because another may have rung. The bell for others may still be on its way.
    fn count_unannounced(&mut self, cause: Cause, rows: &[HistoryRow]) {
        let known = |row: &HistoryRow| {
            // `xmin` has the lower 32 bits.
            let is_writer = |awaited: &u64| awaited & 0xffff_ffff == row.transaction as u64;
            let awaited = self.awaited.as_ref();
            awaited.is_some_and(|awaited| awaited.transactions.iter().any(is_writer))
        };
        let unknown = |row: &&HistoryRow| match &row.kind {
            Kind::Notified(notified) if cause == Cause::Running => {
                // If there is a result, another transaction wrote the row last.
                !notified.answered && !known(row)
            }
            Kind::Notified(_) => true,
            _ => false,
        };
        self.unannounced = match cause {
            Cause::Bell | Cause::Gap => 0,
            Cause::Running | Cause::Interval => {
                self.unannounced + rows.iter().filter(unknown).count()
            }
        };
    }

    /// Records the transactions that were running when the bell was received: they may commit without ringing.
    fn await_running(&mut self, cause: Cause, snapshot: &Snapshot) {
        let awaited = match (cause, self.awaited.take()) {
            (Cause::Interval, _) | (Cause::Running, None) => return,
            (Cause::Running, Some(awaited)) => Awaited {
                transactions: (awaited.transactions.into_iter())
                    .filter(|transaction| !snapshot.has_ended(*transaction))
                    .collect(),
                delay: (awaited.delay * 2).max(FIRST_FOLLOW_UP),
            },
            (Cause::Bell | Cause::Gap, _) => Awaited {
                transactions: snapshot.running().to_vec(),
                // The pause after each look comes on top.
                delay: Duration::ZERO,
            },
        };
        // Longer delays are left to the interval.
        if !awaited.transactions.is_empty() && awaited.delay < INTERVAL {
            self.awaited = Some(awaited);
        }
    }

    /// Checks why no bell rang for rows that were found.
    async fn without_bell(&mut self, session: &Session) {
        let rows = std::mem::take(&mut self.unannounced);
        self.metrics.rows_without_bell.inc_by(rows as u64);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        self.health
            .send_modify(|health| health.without_bell_at_ms = Some(now_ms));
        self.look_for_triggers(session).await;
        let complete = self.health.borrow().missing.is_empty();
        // Otherwise the log already names the missing triggers.
        if complete && let Some(more) = self.unrung.take() {
            warn!(
                "{rows} rows were found for which no bell had rung, although all triggers are there: the transaction that \
                 should have rung was rolled back or killed, or its notification was lost. Their events are at most \
                 {INTERVAL:?} late{more}"
            );
        }
    }

    async fn look_for_triggers(&mut self, session: &Session) {
        if session.recipients_problem().is_some()
            && let Err(error) = session.look_for_recipients().await
        {
            debug!("{error}");
        }
        let missing = match session.missing_triggers().await {
            Ok(missing) => missing,
            Err(error) => return debug!("{error}"),
        };
        // Sooner while some are missing, to notice when that is fixed.
        let pause = if missing.is_empty() {
            TRIGGERS_INTERVAL
        } else {
            INTERVAL / 2
        };
        self.triggers_due = Instant::now() + pause;
        if missing == self.health.borrow().missing {
            return;
        }
        if missing.is_empty() {
            info!("triggers: all are in place again");
        } else {
            error!(
                "triggers missing or disabled: {}; until that is fixed, events are up to {INTERVAL:?} late, and sign-outs \
                 take effect within half a minute; run again: {INSTALL}",
                missing.join(", ")
            );
        }
        self.health.send_modify(|health| health.missing = missing);
    }
}

/// Whether there may be more to read: the `fresh` items fill a `page`.
fn is_page(page: i64, fresh: impl Iterator) -> bool {
    fresh.count() as i64 >= page
}
