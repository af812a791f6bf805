//! The report at `/health` of the admin listener, which `check-health` judges.

use serde::{Deserialize, Serialize};

/// The daemon's state. It contains no user, no incident and no session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The program's version.
    pub(crate) version: String,
    /// Why the daemon is not ready; `None` if it is.
    #[serde(rename = "impediment")]
    pub(crate) not_ready: Option<String>,
    /// Open streams.
    pub(crate) streams: usize,
    /// The maximum number of streams.
    pub(crate) streams_limit: usize,
    /// Contacts with open streams.
    pub(crate) users: usize,
    /// The number of database sessions the daemon needs.
    pub(crate) sessions: usize,
    /// The number of sessions that are up.
    pub(crate) sessions_up: usize,
    /// Seconds since the last pulse completed the round trip through the database; `None` before the first.
    pub(crate) round_age_seconds: Option<f64>,
    /// The latency in seconds that 95 % of the events of the last five minutes did not exceed; `None` without events.
    pub(crate) latency_p95_seconds: Option<f64>,
    /// Events of the last five minutes that were given up: written several times without a receipt.
    pub(crate) events_without_receipt: usize,
}
