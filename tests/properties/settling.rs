//! Which ids are settled, with transactions that overlap in any way.

use std::collections::{BTreeMap, BTreeSet};

use icinga_desktop_bridge::model::ids::HistoryId;
use icinga_desktop_bridge::model::timeline::Tide;
use icinga_desktop_bridge::resolve::Settling;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// The transaction writes a row: the id is handed out now, and is visible when it commits.
    Write(Index),
    /// The transaction ends, by commit or rollback.
    End(Index, bool),
    /// A beat takes its snapshot; it is heard only later.
    Beat,
    /// The oldest beat on its way is heard.
    Hear,
}

/// Weighted so that few transactions run at a time: errors show where one or two overlap with beats.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        5 => any::<Index>().prop_map(Step::Write),
        4 => (any::<Index>(), any::<bool>()).prop_map(|(which, commit)| Step::End(which, commit)),
        3 => Just(Step::Beat),
        4 => Just(Step::Hear),
    ]
}

proptest! {
    #[test]
    fn nothing_at_or_below_a_settled_id_becomes_visible_later(steps in vec(step(), 0..400)) {
        let mut settling = Settling::default();
        let mut running: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let (mut next_transaction, mut next_id) = (10_u64, 1_i64);
        let mut visible = BTreeSet::new();
        let mut on_their_way = std::collections::VecDeque::new();
        let mut settled = i64::MIN;
        for step in steps {
            match step {
                Step::Begin => {
                    running.insert(next_transaction, Vec::new());
                    next_transaction += 1;
                }
                Step::Write(which) if !running.is_empty() => {
                    let which = which.index(running.len());
                    if let Some(ids) = running.values_mut().nth(which) {
                        ids.push(next_id);
                        next_id += 1;
                    }
                }
                Step::End(which, commit) if !running.is_empty() => {
                    let which = running.keys().copied().nth(which.index(running.len()));
                    let ids = which.and_then(|tx| running.remove(&tx)).unwrap_or_default();
                    if commit {
                        for id in ids {
                            prop_assert!(id > settled, "{} comes after {} was settled", id, settled);
                            visible.insert(id);
                        }
                    }
                }
                // As pg_current_snapshot() has it; max(id) is of the same snapshot.
                Step::Beat => on_their_way.push_back(Tide {
                    newest_id: HistoryId(visible.last().copied().unwrap_or(0)),
                    oldest_running: running.keys().next().copied().unwrap_or(next_transaction),
                    first_future: next_transaction,
                    timeline: None,
                }),
                Step::Hear => {
                    if let Some(id) = on_their_way.pop_front().and_then(|beat| settling.beat(&beat)) {
                        settled = settled.max(id.0);
                    }
                }
                Step::Write(_) | Step::End(..) => {}
            }
        }
    }

    #[test]
    fn once_all_is_committed_three_beats_settle_all(
        ids in btree_set(1..100_i64, 0..5), earlier in option::of((0..10_u64, 10..20_u64))
    ) {
        let mut settling = Settling::default();
        let newest_id = HistoryId(ids.last().copied().unwrap_or(0));
        let beat = |newest_id, oldest_running, first_future| {
            Tide { newest_id, oldest_running, first_future, timeline: None }
        };
        if let Some((oldest_running, first_future)) = earlier {
            settling.beat(&beat(HistoryId(0), oldest_running, first_future));
        }
        settling.beat(&beat(newest_id, 30, 30));
        settling.beat(&beat(newest_id, 30, 30));
        prop_assert_eq!(settling.beat(&beat(newest_id, 30, 30)), Some(newest_id));
    }
}
