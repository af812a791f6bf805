//! What the daemon says of itself at `/health` of the admin listener, and `check-health` judges.

use serde::{Deserialize, Serialize};

/// The daemon's state. Nothing in it names a user, an incident or a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The program's version.
    pub(crate) version: String,
    /// Why it cannot do all its work; `None` if it can.
    #[serde(rename = "impediment")]
    pub(crate) not_ready: Option<String>,
    /// Open streams.
    pub(crate) streams: usize,
    /// How many there may be.
    pub(crate) streams_limit: usize,
    /// Contacts with open streams.
    pub(crate) users: usize,
    /// Sessions with the database that there should be.
    pub(crate) sessions: usize,
    /// Those of them that are up.
    pub(crate) sessions_up: usize,
    /// Since when no pulse went all the way through the database and back, in seconds; `None` before the first.
    pub(crate) round_age_seconds: Option<f64>,
    /// What 95 of 100 events of the last five minutes did not take longer than, in seconds; `None` without any.
    pub(crate) latency_p95_seconds: Option<f64>,
    /// Events of the last five minutes that were written again and again, and never proven to have been read.
    pub(crate) events_without_receipt: usize,
}
