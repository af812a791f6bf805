//! Positions, compared with a plain set of everything that is done.

use std::collections::BTreeSet;

use icinga_desktop_bridge::model::ids::HistoryId;
use icinga_desktop_bridge::model::position::Position;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::values::number;

/// How many ids above the floor a position keeps.
const MAX_ABOVE: usize = 4000;

#[derive(Debug, Clone)]
enum Step {
    Extend(Vec<i64>),
    Settle(i64),
    Merge(i64, Vec<i64>),
}

fn step(ids: std::ops::Range<i64>) -> impl Strategy<Value = Step> {
    let id = prop_oneof![20 => ids, 1 => Just(i64::MIN)];
    prop_oneof![
        vec(id.clone(), 0..8).prop_map(Step::Extend),
        id.clone().prop_map(Step::Settle),
        (id.clone(), vec(id, 0..8)).prop_map(|(floor, above)| Step::Merge(floor, above)),
    ]
}

/// The same with a plain set: every id that was marked as done, and the highest settled one.
#[derive(Default)]
struct Model {
    done: BTreeSet<i64>,
    settled: i64,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Extend(ids) => self.done.extend(ids),
            Step::Settle(settled) => self.settled = self.settled.max(*settled),
            Step::Merge(floor, above) => {
                self.settled = self.settled.max(*floor);
                self.done.extend(above);
            }
        }
    }
}

fn position_of(floor: i64, above: &[i64]) -> Position {
    Position::new(HistoryId(floor), above.iter().copied().map(HistoryId))
}

fn take(position: &mut Position, step: &Step) {
    match step {
        Step::Extend(ids) => position.extend(ids.iter().copied().map(HistoryId)),
        Step::Settle(settled) => position.settle(HistoryId(*settled)),
        Step::Merge(floor, above) => position.merge(&position_of(*floor, above)),
    }
}

proptest! {
    #[test]
    fn it_contains_what_is_done_or_settled_and_nothing_else(steps in vec(step(-5..60), 0..30)) {
        let (mut position, mut model) = (Position::default(), Model::default());
        for step in &steps {
            take(&mut position, step);
            model.take(step);
            for id in -6..61 {
                let expected = id <= model.settled || model.done.contains(&id);
                prop_assert_eq!(position.contains(HistoryId(id)), expected, "{} after {:?}", id, step);
            }
            prop_assert_eq!(position.floor().0, model.settled);
        }
        // The stored values are enough to restore it.
        prop_assert_eq!(&Position::new(position.floor(), position.above()), &position);
    }

    #[test]
    fn beyond_the_cap_only_the_oldest_gaps_are_given_up(
        runs in vec((1..5000_i64, 0..400_usize, 1..4_usize), 1..8), steps in vec(step(0..5000), 0..6)
    ) {
        let (mut position, mut model) = (Position::default(), Model::default());
        let runs = runs.into_iter().map(|(start, count, stride)| {
            Step::Extend((start..).step_by(stride).take(count).collect())
        });
        for step in runs.chain(steps) {
            take(&mut position, &step);
            model.take(&step);
            for id in &model.done {
                prop_assert!(position.contains(HistoryId(*id)), "{} is forgotten", id);
            }
            prop_assert!(position.above().count() <= MAX_ABOVE);
            // The floor is where it was settled, or, beyond the cap, a done id below a full memory.
            let floor = position.floor().0;
            prop_assert!(floor >= model.settled);
            for id in position.above() {
                prop_assert!(id.0 > floor && model.done.contains(&id.0));
            }
            if floor > model.settled {
                prop_assert!(model.done.contains(&floor));
                let above = model.done.range(floor + 1..).count();
                prop_assert!(above >= MAX_ABOVE || position.above().count() == above);
            }
        }
    }

    /// A time, which does not affect the ids. Of two times the earlier one counts, and none if either side has none: a row that
    /// is not done on one side is shown rather than lost.
    #[test]
    fn a_time_counts_until_ids_are_settled(
        time in option::of(number()),
        steps in vec((step(-5..60), option::of(number())), 0..10),
    ) {
        let timed = |time: Option<i64>| time.map_or_else(Position::default, Position::delivered_until);
        let (mut position, mut expected) = (timed(time), time);
        let mut untimed = Position::default();
        for (step, other_time) in &steps {
            match step {
                Step::Extend(_) => take(&mut position, step),
                Step::Settle(_) => {
                    take(&mut position, step);
                    expected = None;
                }
                Step::Merge(floor, above) => {
                    let mut other = position_of(*floor, above);
                    // Only one that was not settled has a time.
                    if *floor == 0 {
                        other = timed(*other_time);
                        other.extend(above.iter().copied().map(HistoryId));
                    }
                    expected = expected.zip(other.time_ms()).map(|(one, other)| one.min(other));
                    position.merge(&other);
                }
            }
            take(&mut untimed, step);
            prop_assert_eq!(position.time_ms(), expected, "after {:?}", step);
            prop_assert_eq!(position.floor(), untimed.floor());
            prop_assert!(position.above().eq(untimed.above()), "after {:?}", step);
        }
    }

    #[test]
    fn extremes_do_no_harm(ids in vec(number(), 0..10), settled in number(), other in number()) {
        let mut position = position_of(settled, &ids);
        position.merge(&position_of(other, &ids));
        position.settle(HistoryId(settled));
        for id in ids.iter().chain([&settled, &other]) {
            prop_assert!(position.contains(HistoryId(*id)));
        }
    }
}
