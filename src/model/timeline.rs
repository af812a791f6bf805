//! Whose ids a database has, and how far it is.

use super::ids::HistoryId;

/// Which course of events the ids of a database belong to: the cluster, its timeline, and the database. A failover makes
/// another one, and so does restoring a backup; what was committed then may be gone, and its ids be given to other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(pub(crate) String);

#[cfg(test)]
impl From<&str> for Timeline {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What has been committed, as far as one statement can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tide {
    /// The newest visible `incident_history.id`.
    pub newest_id: HistoryId,
    /// The oldest transaction that was running.
    pub oldest_running: u64,
    /// The first transaction that had not begun.
    pub first_future: u64,
    /// Whose ids these are; `None` on a standby.
    pub timeline: Option<Timeline>,
}

#[cfg(test)]
impl Tide {
    /// A tide of no known timeline.
    pub(crate) fn of(newest_id: i64, oldest_running: u64, first_future: u64) -> Self {
        Self {
            newest_id: HistoryId(newest_id),
            oldest_running,
            first_future,
            timeline: None,
        }
    }
}
