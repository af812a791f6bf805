//! The resolver: ids to events.
//!
//! Takes whatever the listener has heard since the last look, folds it, reads the rows with one query
//! per kind, and publishes each contact's events together. Contacts without streams are not asked
//! for; without any streams nothing is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future;
use log::{debug, error};
use tokio::sync::mpsc;

use super::queue::Received;
use super::settling::Settling;
use crate::database::{NotifiedRow, Queries, QueryError, Recipient, Session};
use crate::hub::Hub;
use crate::model::event::{Content, Event};
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::notification::Severity;
use crate::observe::metrics::Metrics;
use crate::resolve::{Announcement, Fold};

/// How much is taken from the queue at a time: a transaction that notifies thousands is told in
/// several rounds, so that its first recipients do not wait for its last.
const BATCH: usize = 512;

/// The resolver's task.
#[derive(Debug)]
pub(crate) struct Resolver {
    queue: mpsc::Receiver<Received>,
    queries: Queries,
    hub: Hub,
    metrics: Metrics,
}

impl Resolver {
    /// A resolver between the listener's queue and the hub.
    pub(crate) fn new(
        queue: mpsc::Receiver<Received>,
        queries: Queries,
        hub: Hub,
        metrics: Metrics,
    ) -> Self {
        Self {
            queue,
            queries,
            hub,
            metrics,
        }
    }

    /// Runs until the listener or the query session's keeper is gone for good.
    pub(crate) async fn run(mut self) {
        let mut fold = Fold::default();
        let mut settling = Settling::default();
        let mut received = Vec::new();
        while self.queue.recv_many(&mut received, BATCH).await > 0 {
            let (mut gap, mut settled, mut heard) = (false, None, None);
            for received in received.drain(..) {
                match received {
                    Received::Notification {
                        notification,
                        backend,
                        at,
                    } => {
                        heard.get_or_insert(at);
                        fold.push(&notification, backend);
                    }
                    Received::Settled => fold.settled(),
                    Received::Beat(tide) => {
                        if let Some(history_id) = settling.beat(&tide) {
                            settled = Some((history_id, tide.timeline));
                        }
                    }
                    Received::Gap => {
                        fold.settled();
                        gap = true;
                    }
                }
            }
            let ready = fold.take_ready();
            if !ready.is_empty() {
                match self.tell(&ready, heard).await {
                    Told::All => {}
                    // Then browsers look for themselves.
                    Told::NotAll => gap = true,
                    Told::Stopping => return,
                }
            }
            if gap {
                self.hub.gap();
            }
            // Last: below this, browsers that have taken all messages need not look again.
            if let Some((history_id, timeline)) = settled {
                self.hub.settle(history_id, timeline.as_ref());
            }
        }
    }

    /// Looks up `announcements` and publishes them. While the database is away they wait: they are
    /// ids, and what comes behind them has a bounded queue.
    ///
    /// `heard` is when the first of the batch was.
    async fn tell(&mut self, announcements: &[Announcement], heard: Option<Instant>) -> Told {
        loop {
            let (history_ids, incident_ids) = self.wanted(announcements);
            if history_ids.is_empty() && incident_ids.is_empty() {
                self.publish(announcements, Vec::new(), Vec::new(), heard);
                return Told::All;
            }
            let Some(session) = self.queries.session().await else {
                return Told::Stopping;
            };
            match look_up(&session, &history_ids, &incident_ids).await {
                Ok((rows, recipients)) => {
                    self.publish(announcements, rows, recipients, heard);
                    return Told::All;
                }
                Err(error @ QueryError::Lost(_)) => {
                    debug!(
                        "{} events wait for the database: {error}",
                        announcements.len()
                    );
                }
                Err(error @ QueryError::Refused(_)) => {
                    error!(
                        "a query for {} events failed, they are read again: {error}",
                        announcements.len()
                    );
                    return Told::NotAll;
                }
            }
        }
    }

    /// The rows and incidents that somebody here would be told of.
    fn wanted(&self, announcements: &[Announcement]) -> (Vec<HistoryId>, Vec<IncidentId>) {
        let (mut history_ids, mut incident_ids) = (Vec::new(), Vec::new());
        for announcement in announcements {
            match *announcement {
                Announcement::Notified {
                    history_ids: ref ids,
                    contact_id,
                    ..
                } => {
                    if self.hub.has(contact_id) {
                        history_ids.extend(ids.first());
                    }
                }
                Announcement::Covered { .. } => {}
                Announcement::Changed { incident_id, .. } => {
                    if !self.hub.is_empty() {
                        incident_ids.push(incident_id);
                    }
                }
            }
        }
        (history_ids, incident_ids)
    }

    /// Renders what was found, and gives each contact its events together.
    fn publish(
        &self,
        announcements: &[Announcement],
        rows: Vec<NotifiedRow>,
        recipients: Vec<Recipient>,
        heard: Option<Instant>,
    ) {
        let rows: HashMap<HistoryId, NotifiedRow> =
            rows.into_iter().map(|row| (row.history_id, row)).collect();
        let mut by_incident: HashMap<IncidentId, Vec<Recipient>> = HashMap::new();
        for recipient in recipients {
            let incident = by_incident.entry(recipient.incident_id).or_default();
            incident.push(recipient);
        }
        let mut contacts: HashMap<ContactId, Vec<Arc<Event>>> = HashMap::new();
        let mut give = |contact_id, event| contacts.entry(contact_id).or_default().push(event);
        for announcement in announcements {
            match announcement {
                Announcement::Notified {
                    history_ids,
                    severity,
                    ..
                } => {
                    // A row that is gone, or does not say what its notification said, is not told.
                    let Some(row) = history_ids.first().and_then(|id| rows.get(id)) else {
                        continue;
                    };
                    // Of these alone, because a changed incident may have been heard in an earlier batch.
                    let event = Event {
                        heard,
                        ..notified(row, history_ids, *severity)
                    };
                    // The contact is the row's, whatever the notification claims.
                    give(row.contact_id, Arc::new(event));
                }
                Announcement::Covered {
                    history_id,
                    contact_id,
                } => give(*contact_id, Arc::new(covered(*history_id))),
                Announcement::Changed {
                    incident_id,
                    severity,
                } => {
                    let recipients = by_incident.get(incident_id).map(Vec::as_slice);
                    let recipients = recipients.unwrap_or_default();
                    let Some(first) = recipients.first() else {
                        continue;
                    };
                    // The same for all of them: rendered once.
                    let event = Arc::new(changed(first, *severity));
                    for recipient in recipients {
                        give(recipient.contact_id, Arc::clone(&event));
                    }
                }
            }
        }
        for (contact_id, events) in contacts {
            let shown = events.iter().filter(|event| !event.bytes.is_empty());
            let count = shown.count();
            if self.hub.publish(contact_id, events) {
                self.metrics.events.inc_by(count as u64);
            }
        }
    }
}

/// The event of a history row. A severity that the same transaction gave the incident counts before the present one.
fn notified(row: &NotifiedRow, history_ids: &[HistoryId], severity: Option<Severity>) -> Event {
    Event::render(Content {
        history_ids: history_ids.to_vec(),
        time_ms: row.time_ms,
        incident_id: row.incident_id,
        severity: severity.map_or(&row.severity, |severity| severity.as_str()),
        title: &row.title,
        message: row.message.as_deref(),
    })
}

/// What only says that a row is done.
fn covered(history_id: HistoryId) -> Event {
    Event {
        history_ids: vec![history_id],
        incident_id: IncidentId(0),
        bytes: Bytes::new(),
        heard: None,
    }
}

/// The event of an incident that changed without a history row.
fn changed(recipient: &Recipient, severity: Option<Severity>) -> Event {
    Event::render(Content {
        history_ids: Vec::new(),
        time_ms: jiff::Timestamp::now().as_millisecond(),
        incident_id: recipient.incident_id,
        severity: severity.map_or(&recipient.severity, |severity| severity.as_str()),
        title: &recipient.title,
        message: None,
    })
}

/// What became of announcements.
enum Told {
    All,
    NotAll,
    Stopping,
}

async fn look_up(
    session: &Session,
    history_ids: &[HistoryId],
    incident_ids: &[IncidentId],
) -> Result<(Vec<NotifiedRow>, Vec<Recipient>), QueryError> {
    // Pipelined: both are under way at once.
    future::try_join(
        async {
            if history_ids.is_empty() {
                return Ok(Vec::new());
            }
            session.notified(history_ids).await
        },
        async {
            if incident_ids.is_empty() {
                return Ok(Vec::new());
            }
            session.recipients(incident_ids).await
        },
    )
    .await
}
