//! Which transactions were running when a statement read the database.

use std::str::FromStr;
use std::sync::Arc;

/// A snapshot of PostgreSQL (`pg_current_snapshot()`): which transactions had committed and which were running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The first transaction that had not started.
    first_future: u64,
    /// The running transactions, ascending.
    running: Arc<[u64]>,
}

/// The error for a text that is not a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot")]
pub struct NoSnapshot;

impl Snapshot {
    /// A snapshot in which `running` were running and `first_future` had not started.
    pub fn new(first_future: u64, running: impl IntoIterator<Item = u64>) -> Self {
        let mut running: Vec<_> = running.into_iter().collect();
        running.sort_unstable();
        Self {
            first_future,
            running: running.into(),
        }
    }

    /// The transactions that were running, ascending.
    pub fn running(&self) -> &Arc<[u64]> {
        &self.running
    }

    /// Whether a transaction that was running at an earlier snapshot has ended.
    pub fn has_ended(&self, transaction: u64) -> bool {
        transaction < self.first_future && self.running.binary_search(&transaction).is_err()
    }

    /// The oldest transaction that may still be running.
    pub fn oldest_running(&self) -> u64 {
        self.running.first().copied().unwrap_or(self.first_future)
    }
}

impl FromStr for Snapshot {
    type Err = NoSnapshot;

    /// Parses PostgreSQL's format, `xmin:xmax:xip,…`.
    fn from_str(text: &str) -> Result<Self, NoSnapshot> {
        let mut parts = text.split(':');
        let (Some(_), Some(first_future), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoSnapshot);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoSnapshot);
        let running = running.split(',').filter(|text| !text.is_empty());
        Ok(Self::new(
            number(first_future)?,
            running.map(number).collect::<Result<Vec<_>, _>>()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_lists_running_transactions() {
        let snapshot: Snapshot = "10:20:10,14,15".parse().unwrap();
        assert_eq!(snapshot, Snapshot::new(20, [14, 10, 15]));
        assert_eq!(snapshot.oldest_running(), 10);
        for (transaction, ended) in [(9, true), (10, false), (12, true), (15, false), (20, false)] {
            assert_eq!(snapshot.has_ended(transaction), ended, "{transaction}");
        }
        let quiet: Snapshot = "20:20:".parse().unwrap();
        assert_eq!(quiet.oldest_running(), 20);
        assert!(quiet.running().is_empty());
        for wrong in ["", "1:2", "1:2:3:4", "a:b:c", "1:2:3,x", "1:-2:"] {
            assert_eq!(wrong.parse::<Snapshot>(), Err(NoSnapshot), "{wrong}");
        }
    }
}
