//! All statements, by topic: the SQL beside the rows that it returns.
//!
//! Frequent statements are prepared with the session, from the functions `…_sql`. Every method returns a
//! [`QueryError`](super::QueryError) if it fails.
//!
//! A plan is made once and kept, even if the tables were empty then, and whatever the statistics are. So that no plan can read a
//! whole growing table, each statement allows only one access path to a row: an index, with its key given. Where two conditions
//! have an index each, one is written so that no index matches (`id + 0`, `type::text`). Where rows are needed in the order of an
//! index, only that index provides it. A row is looked up with `id BETWEEN x AND x ORDER BY id LIMIT 1`, because `id = x` would
//! make the order redundant; joined tables are in a `LATERAL … OFFSET 0` or `LIMIT`, which is planned separately. Rows are
//! counted where PostgreSQL could turn `EXISTS` into a semi-join. Sequential scans are disabled for the session.

pub(super) mod bell;
mod explain;
pub(super) mod look;
pub(super) mod positions;
pub(super) mod pulse;
mod questions;
pub(super) mod recipients;
pub(super) mod replay;
mod rights;
pub(super) mod sign_ins;

pub(crate) use explain::{ContactRow, NotifiedRow, SignedIn};
pub(crate) use look::{HistoryRow, Kind, Notified};
pub(crate) use positions::{RowIdentity, StoredPosition, ToStore};
pub(crate) use recipients::Recipient;
pub(crate) use replay::{Bounds, Missed};

use crate::database::installation::{Events, Installation};
use crate::model::event::TEXT_LIMIT;

/// Texts are cut in the database, so that megabytes of plugin output are not transferred: as many characters as an event can hold
/// bytes, and one more to see that the text was cut.
const TEXT_CHARACTERS: usize = TEXT_LIMIT + 1;

/// Whether the notified row `incident_history h` is shown: it was written as pending or sent. A failed row was pending before;
/// one that was written as failed has no time of sending.
const ANNOUNCES: &str = "(h.notification_state IN ('pending', 'sent')
    OR (h.notification_state = 'failed' AND h.sent_at IS NOT NULL))";

/// Whether the notified row `incident_history h` belongs to a transaction that opened the incident or changed its severity, or to
/// the first that notified its contact of the incident: those shown with `[daemon] notify = severity`.
///
/// The channel's result is written to the row by a later transaction, which replaces `xmin`. The original transaction is then
/// that of the last row before it of another type, because such rows are never updated.
const OF_SEVERITY: &str = "((SELECT count(*) FROM incident_history s WHERE s.incident_id = h.incident_id
      AND s.type::text IN ('opened', 'incident_severity_changed')
      AND s.xmin = CASE WHEN h.notification_state = 'pending' THEN h.xmin ELSE (
        SELECT p.xmin FROM incident_history p
        WHERE p.incident_id = h.incident_id AND p.id + 0 < h.id AND p.type <> 'notified'
        ORDER BY p.id + 0 DESC LIMIT 1) END) > 0
    OR (SELECT count(*) FROM incident_history e WHERE e.incident_id = h.incident_id AND e.contact_id + 0 = h.contact_id
      AND e.type::text = 'notified' AND e.id + 0 < h.id AND e.xmin <> h.xmin) = 0)";

/// The columns of `incident_history h` that [`message`] needs.
fn message_columns(installation: &Installation, h: &str) -> String {
    match installation.events {
        Events::Readable => format!("{h}.message, {h}.event_id"),
        Events::Absent | Events::Forbidden => format!("{h}.message"),
    }
}

/// The SQL expression for the message of a row `h` with those columns, cut: its own, or that of its event, which is only looked
/// up if needed.
fn message(installation: &Installation, h: &str) -> String {
    let whole = match installation.events {
        Events::Readable => format!(
            "coalesce({h}.message, (SELECT e.message FROM event e WHERE e.id = {h}.event_id))"
        ),
        Events::Absent | Events::Forbidden => format!("{h}.message"),
    };
    format!("left({whole}, {TEXT_CHARACTERS})")
}
