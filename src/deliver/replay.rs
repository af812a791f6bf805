//! Replay: the notifications that a browser missed while it was disconnected, or the daemon did not run.
//!
//! Only the newest change of each incident is sent: nobody wants thirty popups for one flapping host.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tokio::sync::{Semaphore, watch};

use crate::config::{Limits, Tuning};
use crate::database::{Bounds, Missed, Queries, QueryError};
use crate::model::event::{Content, Event, Rendered};
use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// Replays at a time: a gap concerns all browsers at once, and live events share the query session with replays.
const CONCURRENT: usize = 8;

/// Incidents per chunk of a complete replay, so that what waits for a slow client is bounded.
const CHUNK: usize = 100;

/// Pause after a replay failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the server may reject a replay before a summary is sent instead: some may never be readable.
const ATTEMPTS: u32 = 3;

/// Reads what browsers missed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Replayer {
    queries: Queries,
    tuning: watch::Receiver<Tuning>,
    running: Arc<Semaphore>,
}

/// The state of a browser that may have missed something.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) contact_id: ContactId,
    /// The rows that are done.
    pub(crate) position: Position,
    /// The number of the hub's epoch that the ids belong to.
    pub(crate) epoch: u64,
    /// The same epoch as named by the database.
    pub(crate) named: Epoch,
    /// Rows of events that already wait for the browser.
    pub(crate) known: Vec<HistoryId>,
    /// The id up to which all rows are settled, if that is known.
    pub(crate) settled: Option<HistoryId>,
}

/// The result of a replay.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The number of the hub's epoch that the ids belong to.
    pub(crate) epoch: u64,
    /// The events to send, oldest first.
    pub(crate) events: Vec<Arc<Event>>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// A running replay. It is retried until the database answers.
pub(crate) type Running = Pin<Box<dyn Future<Output = Replay> + Send>>;

impl Replayer {
    /// A replayer that queries with `queries`, within the limits of `tuning`.
    pub(crate) fn new(queries: Queries, tuning: watch::Receiver<Tuning>) -> Self {
        Self {
            queries,
            tuning,
            running: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }

    /// Everything that is missing, in chunks.
    pub(crate) fn complete(&self, missing: Missing) -> Running {
        self.start(missing, None)
    }

    /// What is missing within the limits for a browser that was disconnected, and a summary of the rest.
    pub(crate) fn returning(&self, missing: Missing) -> Running {
        let limits = self.tuning.borrow().replay;
        self.start(missing, Some(limits))
    }

    fn start(&self, missing: Missing, limits: Option<Limits>) -> Running {
        let mut replayer = self.clone();
        Box::pin(async move {
            let mut refused = 0;
            loop {
                match replayer.read(&missing, limits).await {
                    Read::Done(replay) => return replay,
                    Read::Refused(error) if refused + 1 == ATTEMPTS => {
                        warn!(
                            "replay for contact {} failed {ATTEMPTS} times, a summary is sent instead: {error}",
                            missing.contact_id
                        );
                        let opens = replayer.newest_incident(missing.contact_id).await;
                        return unread(&missing, opens);
                    }
                    Read::Refused(error) => {
                        debug!("replay for contact {}: {error}", missing.contact_id);
                        refused += 1;
                    }
                    Read::Disconnected => {}
                    Read::OtherIds => {
                        // Until the next look has noticed the new epoch, too.
                        tokio::time::sleep(RETRY_AFTER).await;
                        return Replay {
                            epoch: missing.epoch,
                            events: Vec::new(),
                            more: true,
                        };
                    }
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        })
    }

    /// An incident of a contact for a summary to open; `None` if there is none, or it cannot be read.
    async fn newest_incident(&mut self, contact_id: ContactId) -> Option<IncidentId> {
        let session = self.queries.session().await?;
        session.newest_incident(contact_id).await.ok().flatten()
    }

    async fn read(&mut self, missing: &Missing, limits: Option<Limits>) -> Read {
        let Some(session) = self.queries.session().await else {
            return Read::Disconnected;
        };
        let Ok(_permit) = self.running.acquire().await else {
            return Read::Disconnected;
        };
        let (contact_id, kinds) = (missing.contact_id, self.tuning.borrow().notify);
        let bounds = match limits {
            Some(limits) => Bounds {
                since_ms: milliseconds_ago(limits.age),
                incidents: limits.incidents.into(),
                limit: i64::MAX,
            },
            None => Bounds {
                since_ms: i64::MIN,
                incidents: i64::MAX,
                limit: CHUNK as i64,
            },
        };
        match session
            .missed(
                &missing.named,
                contact_id,
                &missing.position,
                &missing.known,
                bounds,
                kinds,
            )
            .await
        {
            Ok(missed) => {
                if !missed.is_empty() {
                    debug!(
                        "replay for contact {contact_id}: {} incidents",
                        missed.len()
                    );
                }
                let more = limits.is_none() && missed.len() >= CHUNK;
                Read::Done(Replay {
                    epoch: missing.epoch,
                    events: events(missed, missing.epoch),
                    more,
                })
            }
            Err(error @ QueryError::Lost(_)) => {
                debug!("replay for contact {contact_id}: {error}");
                Read::Disconnected
            }
            Err(QueryError::OtherIds) => Read::OtherIds,
            Err(error) => Read::Refused(error),
        }
    }
}

/// The result of a query.
enum Read {
    Done(Replay),
    /// The server rejected the query.
    Refused(QueryError),
    /// There is no session.
    Disconnected,
    /// Ids have restarted, so the position does not apply any more.
    OtherIds,
}

/// The summary if the missing events cannot be read. It opens an incident of the contact, or none, which is 0.
fn unread(missing: &Missing, opens: Option<IncidentId>) -> Replay {
    let rendered = Rendered::new(&Content {
        time_ms: jiff::Timestamp::now().as_millisecond(),
        incident_id: opens.unwrap_or(IncidentId(0)),
        severity: "notice",
        title: "Incidents changed while you were away",
        message: Some("Which ones could not be read: look at the list of incidents in Icinga Web."),
    });
    let event = Event {
        through: missing.settled,
        ..rendered.event(Vec::new(), missing.epoch)
    };
    Replay {
        epoch: missing.epoch,
        events: vec![Arc::new(event)],
        more: false,
    }
}

fn milliseconds_ago(age: Duration) -> i64 {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_sub(age)
}

/// An event per incident within the limits, after a summary of the others.
fn events(missed: Vec<Missed>, epoch: u64) -> Vec<Arc<Event>> {
    let (shown, left_out): (Vec<_>, Vec<_>) = missed
        .into_iter()
        .partition(|missed| missed.texts.is_some());
    let summary = summary(&left_out, epoch);
    let shown = shown.into_iter().map(|missed| {
        let (title, message) = missed.texts.unwrap_or_default();
        let rendered = Rendered::new(&Content {
            time_ms: missed.time_ms,
            incident_id: missed.incident_id,
            severity: &missed.severity,
            title: &title,
            message: message.as_deref(),
        });
        rendered.event(missed.history_ids, epoch)
    });
    summary.into_iter().chain(shown).map(Arc::new).collect()
}

/// A summary of all incidents beyond the limits, so that nothing is dropped silently. It opens the newest of them.
fn summary(left_out: &[Missed], epoch: u64) -> Option<Event> {
    let newest = left_out.last()?;
    let changed = match left_out.len() {
        1 => "1 more incident changed".to_owned(),
        count => format!("{count} more incidents changed"),
    };
    let title = format!("{changed} while you were away");
    let oldest_ms = left_out.iter().map(|missed| missed.time_ms).min();
    let message = oldest_ms
        .and_then(|oldest_ms| since(oldest_ms, jiff::Timestamp::now()))
        .map(|since| format!("{changed} since {since}"));
    // The newest row of the newest incident first: it becomes the event's id.
    let history_ids = left_out
        .iter()
        .rev()
        .flat_map(|missed| missed.history_ids.iter().copied());
    let rendered = Rendered::new(&Content {
        time_ms: newest.time_ms,
        incident_id: newest.incident_id,
        severity: &newest.severity,
        title: &title,
        message: message.as_deref(),
    });
    Some(Event {
        sums_up: true,
        ..rendered.event(history_ids.collect(), epoch)
    })
}

/// Formats a time for a popup, in UTC; without the day if it is today. `None` if no calendar holds it.
fn since(time_ms: i64, now: jiff::Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time_ms).ok()?;
    let is_today = time.strftime("%F").to_string() == now.strftime("%F").to_string();
    let format = if is_today {
        "%H:%M UTC"
    } else {
        "%F %H:%M UTC"
    };
    Some(time.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::IncidentId;

    fn missed(incident_id: i64, history_ids: &[i64], shown: bool) -> Missed {
        Missed {
            history_ids: history_ids.iter().copied().map(HistoryId).collect(),
            incident_id: IncidentId(incident_id),
            time_ms: 0,
            severity: "crit".to_owned(),
            texts: shown.then(|| ("title".to_owned(), None)),
        }
    }

    #[test]
    fn a_summary_of_the_rest_comes_first() {
        let events = events(
            vec![
                missed(1, &[10, 5], false),
                missed(2, &[20], false),
                missed(3, &[30, 7], true),
            ],
            0,
        );
        assert_eq!(events.len(), 2);
        let text = std::str::from_utf8(&events[0].bytes).unwrap();
        assert!(
            text.contains("\"title\":\"2 more incidents changed while you were away\""),
            "{text}"
        );
        // The oldest one, from 1970.
        let message = "\"message\":\"2 more incidents changed since 1970-01-01 00:00 UTC\"";
        assert!(text.contains(message), "{text}");
        assert_eq!(events[0].incident_id, IncidentId(2));
        assert_eq!(events[0].history_ids, [20, 10, 5].map(HistoryId));
        assert_eq!(events[1].history_ids, [30, 7].map(HistoryId));
    }

    #[test]
    fn there_is_no_summary_if_nothing_is_left_out() {
        assert_eq!(events(vec![missed(1, &[1], true)], 0).len(), 1);
        assert!(events(vec![], 0).is_empty());
        let one = events(vec![missed(1, &[1], false)], 0);
        let text = std::str::from_utf8(&one[0].bytes).unwrap();
        for part in [
            "1 more incident changed while",
            "1 more incident changed since",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_time_of_today_is_named_without_its_day() {
        let now: jiff::Timestamp = "2026-11-23T10:15:30Z".parse().unwrap();
        let named = |time: &str| {
            let time: jiff::Timestamp = time.parse().unwrap();
            since(time.as_millisecond(), now)
        };
        assert_eq!(named("2026-11-23T09:40:59Z").unwrap(), "09:40 UTC");
        assert_eq!(
            named("2026-11-22T23:59:59Z").unwrap(),
            "2026-11-22 23:59 UTC"
        );
        assert_eq!(since(i64::MAX, now), None);
    }
}
