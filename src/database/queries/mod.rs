//! Every statement, by topic: its SQL beside the rows that it returns.
//!
//! Those that are sent again and again are prepared with the session, from the functions `…_sql`. Each method fails with a
//! [`QueryError`](super::QueryError).

pub(super) mod events;
pub(super) mod positions;
pub(super) mod pulse;
mod questions;
pub(super) mod replay;
pub(super) mod sign_ins;

pub(crate) use events::{NotifiedRow, Recipient};
pub(crate) use positions::RowIdentity;
pub(crate) use replay::{Bounds, Missed};

use crate::model::event::TEXT_LIMIT;

/// Texts are cut in the database, so that megabytes of plugin output never travel: as many characters
/// as an event can hold bytes, and one more to see that something was cut.
const TEXT_CHARACTERS: usize = TEXT_LIMIT + 1;

/// Whether the notified row `incident_history h` announces something: it was written as pending or sent.
/// A row that failed was pending before; one that was written as failed has no time of sending.
const ANNOUNCES: &str = "(h.notification_state IN ('pending', 'sent')
    OR (h.notification_state = 'failed' AND h.sent_at IS NOT NULL))";
