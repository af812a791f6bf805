//! Which ids are settled.

use crate::model::ids::HistoryId;
use crate::model::timeline::{Tide, Timeline};

/// Finds out from beats up to which history row everything is settled.
#[derive(Debug, Default)]
pub struct Settling {
    /// Whose ids these are.
    timeline: Option<Timeline>,
    /// The newest id of the last beat.
    earlier: Option<HistoryId>,
    /// The newest id of some beat, and the first transaction that had not begun one beat later.
    candidate: Option<(HistoryId, u64)>,
}

impl Settling {
    /// Takes the tide of a beat. Returns an id up to which no transaction can bring another row any more: at some
    /// earlier beat it was the newest, and all transactions of the beat after that have ended since.
    ///
    /// The beat after, because an id may be drawn a moment before its transaction gets its number.
    pub fn beat(&mut self, beat: &Tide) -> Option<HistoryId> {
        if self.timeline != beat.timeline {
            *self = Self {
                timeline: beat.timeline.clone(),
                ..Self::default()
            };
        }
        let settled = self
            .candidate
            .take_if(|(_, future)| beat.oldest_running >= *future)
            .map(|(newest_id, _)| newest_id);
        if self.candidate.is_none() {
            self.candidate = self.earlier.map(|newest_id| (newest_id, beat.first_future));
        }
        self.earlier = Some(beat.newest_id);
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_settled_once_all_transactions_of_its_time_have_ended() {
        let mut settling = Settling::default();
        let mut settled = |newest, oldest, first| settling.beat(&Tide::of(newest, oldest, first));
        assert_eq!(settled(100, 5, 10), None);
        // What was the newest one beat ago waits for all transactions of now.
        assert_eq!(settled(120, 7, 15), None);
        // Transaction 14 is still running; it may have drawn id 99.
        assert_eq!(settled(130, 14, 20), None);
        assert_eq!(settled(140, 15, 25), Some(HistoryId(100)));
        assert_eq!(settled(150, 25, 25), Some(HistoryId(130)));
        assert_eq!(settled(150, 25, 25), Some(HistoryId(140)));
    }

    #[test]
    fn nothing_of_another_timeline_settles_an_id() {
        let mut settling = Settling::default();
        for _ in 0..2 {
            assert_eq!(settling.beat(&Tide::of(100, 9, 9)), None);
        }
        let after_failover = Tide {
            timeline: Some("2".into()),
            ..Tide::of(50, 9, 9)
        };
        assert_eq!(settling.beat(&after_failover), None);
        assert_eq!(settling.beat(&after_failover), None);
        assert_eq!(settling.beat(&after_failover), Some(HistoryId(50)));
    }
}
