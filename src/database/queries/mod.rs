//! Every statement, by topic: its SQL beside the rows that it returns.
//!
//! Those that are sent again and again are prepared with the session, from the functions `…_sql`. Each method fails with a
//! [`QueryError`](super::QueryError).

pub(super) mod bell;
mod explain;
pub(super) mod look;
pub(super) mod positions;
pub(super) mod pulse;
mod questions;
pub(super) mod recipients;
pub(super) mod replay;
pub(super) mod sign_ins;

pub(crate) use explain::{ContactRow, NotifiedRow, SignedIn};
pub(crate) use look::{HistoryRow, Kind, Notified, PAGE};
pub(crate) use positions::{RowIdentity, StoredPosition, ToStore};
pub(crate) use recipients::Recipient;
pub(crate) use replay::{Bounds, Missed};

use crate::database::installation::{Events, Installation};
use crate::model::event::TEXT_LIMIT;

/// Texts are cut in the database, so that megabytes of plugin output never travel: as many characters
/// as an event can hold bytes, and one more to see that something was cut.
const TEXT_CHARACTERS: usize = TEXT_LIMIT + 1;

/// Whether the notified row `incident_history h` announces something: it was written as pending or sent.
/// A row that failed was pending before; one that was written as failed has no time of sending.
const ANNOUNCES: &str = "(h.notification_state IN ('pending', 'sent')
    OR (h.notification_state = 'failed' AND h.sent_at IS NOT NULL))";

/// Whether the notified row `incident_history h` is of a transaction that opened the incident or changed its severity, or of
/// the first that notified its contact of the incident: what `[daemon] notify = severity` shows.
///
/// Once its channel has answered, the row is another transaction's. Its own is then that of the last row before it that
/// notifies nobody, which is never written again.
///
/// Rows are counted and not looked for: for the first of many, a plan may read the whole table in another order.
const OF_SEVERITY: &str = "((SELECT count(*) FROM incident_history s WHERE s.incident_id = h.incident_id
      AND s.type IN ('opened', 'incident_severity_changed')
      AND s.xmin = CASE WHEN h.notification_state = 'pending' THEN h.xmin ELSE (
        SELECT p.xmin FROM incident_history p
        WHERE p.incident_id = h.incident_id AND p.id < h.id AND p.type <> 'notified'
        ORDER BY p.id + 0 DESC LIMIT 1) END) > 0
    OR (SELECT count(*) FROM incident_history e WHERE e.incident_id = h.incident_id AND e.contact_id = h.contact_id
      AND e.type = 'notified' AND e.id < h.id AND e.xmin <> h.xmin) = 0)";

/// The columns of `incident_history h` that [`message`] needs.
fn message_columns(installation: &Installation, h: &str) -> String {
    match installation.events {
        Events::Readable => format!("{h}.message, {h}.event_id"),
        Events::Absent | Events::Forbidden => format!("{h}.message"),
    }
}

/// The expression whose value is the message of a row `h` with those columns, cut: its own, else that of its event, which is only
/// looked up then.
fn message(installation: &Installation, h: &str) -> String {
    let whole = match installation.events {
        Events::Readable => format!(
            "coalesce({h}.message, (SELECT e.message FROM event e WHERE e.id = {h}.event_id))"
        ),
        Events::Absent | Events::Forbidden => format!("{h}.message"),
    };
    format!("left({whole}, {TEXT_CHARACTERS})")
}
