//! Which ids were seen and which may still be committed, with a database whose transactions overlap in any way, and a reader
//! whose looks take any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use icinga_desktop_bridge::model::snapshot::Snapshot;
use icinga_desktop_bridge::resolve::Gaps;
use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A transaction gets its number within this time after it drew its first id.
const SECOND: Duration = Duration::from_secs(1);

/// How many rows beyond the newest one a look reads.
const PAGE: usize = 3;

/// What happens in the database.
#[derive(Debug, Clone)]
enum Step {
    /// A transaction draws an id: one that runs, or a new one.
    Draw(Index),
    /// A transaction gets its number.
    Number(Index),
    /// A transaction ends, by commit or rollback.
    End(Index, bool),
    /// Time passes, in milliseconds.
    Pass(u64),
}

/// Weighted so that few transactions run at a time, and some run long without a number: errors appear where one or two overlap
/// with looks.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => any::<Index>().prop_map(Step::Draw),
        1 => any::<Index>().prop_map(Step::Number),
        5 => (any::<Index>(), any::<bool>()).prop_map(|(which, commit)| Step::End(which, commit)),
        2 => select(vec![1, 500, 999, 1000]).prop_map(Step::Pass),
    ]
}

/// What happens before a look, and between its four statements.
type Round = [Vec<Step>; 4];

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    vec(uniform4(vec(step(), 0..6)), 0..12)
}

#[derive(Debug, Default)]
struct Transaction {
    number: Option<u64>,
    ids: Vec<i64>,
    /// When it drew its first id.
    since: Option<Instant>,
}

#[derive(Debug)]
struct Database {
    now: Instant,
    running: Vec<Transaction>,
    next_id: i64,
    next_number: u64,
    visible: BTreeSet<i64>,
}

impl Database {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            running: Vec::new(),
            next_id: 1,
            next_number: 10,
            visible: BTreeSet::new(),
        }
    }

    fn number(&mut self, which: usize) {
        if self.running[which].number.is_none() {
            self.running[which].number = Some(self.next_number);
            self.next_number += 1;
        }
    }

    fn end(&mut self, which: usize, commit: bool) {
        if commit {
            self.number(which);
            self.visible.extend(&self.running[which].ids);
        }
        self.running.remove(which);
    }

    fn take(&mut self, step: &Step) {
        let running = self.running.len();
        match step {
            Step::Draw(which) => {
                let which = which.index(running + 1);
                if which == running {
                    self.running.push(Transaction::default());
                }
                self.running[which].ids.push(self.next_id);
                self.running[which].since.get_or_insert(self.now);
                self.next_id += 1;
            }
            Step::Number(which) if running > 0 => self.number(which.index(running)),
            Step::End(which, commit) if running > 0 => self.end(which.index(running), *commit),
            Step::Number(_) | Step::End(..) => {}
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(*milliseconds)),
        }
    }

    fn pass(&mut self, time: Duration) {
        let now = self.now + time;
        for which in 0..self.running.len() {
            let since = self.running[which].since;
            if since.is_some_and(|since| now >= since + SECOND) {
                self.number(which);
            }
        }
        self.now = now;
    }

    fn snapshot(&self) -> Snapshot {
        let running = self.running.iter().filter_map(|running| running.number);
        Snapshot::new(self.next_number, running)
    }

    fn beyond(&self, newest: i64) -> impl Iterator<Item = i64> {
        self.visible.range(newest + 1..).copied().take(PAGE)
    }

    fn within(&self, ranges: &[(i64, i64)]) -> impl Iterator<Item = i64> {
        (ranges.iter()).flat_map(|(first, last)| self.visible.range(first..=last).copied())
    }
}

/// A look: what it should read, what it found, and what was known then.
#[derive(Debug)]
struct Look {
    asked: Instant,
    read: Instant,
    snapshot: Snapshot,
    young: Vec<(i64, i64)>,
    filled: Vec<(i64, i64)>,
    ids: Vec<i64>,
    floor: i64,
    newest: i64,
}

/// Looks as the resolver does, while `meanwhile` happens before its statements.
fn look(gaps: &mut Gaps, database: &mut Database, meanwhile: &Round) -> Look {
    let [before, after_asking, after_snapshot, after_reading] = meanwhile;
    before.iter().for_each(|step| database.take(step));
    let asked = database.now;
    let (newest, young) = (gaps.newest(), gaps.young());
    after_asking.iter().for_each(|step| database.take(step));
    let snapshot = database.snapshot();
    after_snapshot.iter().for_each(|step| database.take(step));
    let mut ids: Vec<_> = database.within(&young).collect();
    ids.extend(database.beyond(newest));
    after_reading.iter().for_each(|step| database.take(step));
    let filled = gaps.filled(&snapshot);
    ids.extend(database.within(&filled));
    ids.sort_unstable();
    let read = database.now;
    gaps.saw(ids.iter().copied(), &snapshot, asked, read);
    Look {
        asked,
        read,
        snapshot,
        young,
        filled,
        ids,
        floor: gaps.floor(),
        newest: gaps.newest(),
    }
}

/// All looks of some rounds, and of as many more as it takes to read everything once all transactions have ended.
fn play(rounds: &[Round]) -> (Gaps, Database, Vec<Look>) {
    let (mut gaps, mut database) = (Gaps::new(0), Database::new());
    let mut looks: Vec<_> = (rounds.iter())
        .map(|round| look(&mut gaps, &mut database, round))
        .collect();
    while !database.running.is_empty() {
        let commit = database.running.len() % 2 == 0;
        database.end(0, commit);
    }
    for _ in 0..database.visible.len() / PAGE + 2 {
        looks.push(look(&mut gaps, &mut database, &Round::default()));
    }
    database.pass(SECOND);
    looks.push(look(&mut gaps, &mut database, &Round::default()));
    (gaps, database, looks)
}

fn ids_of(ranges: &[(i64, i64)]) -> impl Iterator<Item = i64> {
    ranges.iter().flat_map(|(first, last)| *first..=*last)
}

proptest! {
    // Errors need several steps in a certain order, and a case is quick.
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn every_committed_id_is_read_once(rounds in rounds()) {
        let (_, database, looks) = play(&rounds);
        let mut read: Vec<_> = looks.iter().flat_map(|look| look.ids.iter().copied()).collect();
        read.sort_unstable();
        let committed: Vec<_> = database.visible.into_iter().collect();
        prop_assert_eq!(read, committed, "{:#?}", looks);
    }

    #[test]
    fn the_floor_never_passes_an_id_that_is_read_later(rounds in rounds()) {
        let (_, database, looks) = play(&rounds);
        for id in database.visible {
            let unread = looks.iter().take_while(|look| !look.ids.contains(&id));
            for look in unread {
                prop_assert!(look.floor < id, "{} is to come after {:#?}", id, look);
            }
        }
        prop_assert!(looks.is_sorted_by_key(|look| (look.floor, look.newest)), "{:#?}", looks);
    }

    #[test]
    fn once_all_has_ended_nothing_is_missing(rounds in rounds()) {
        let (gaps, database, looks) = play(&rounds);
        let newest = database.visible.last().copied().unwrap_or(0);
        prop_assert_eq!((gaps.newest(), gaps.floor()), (newest, newest), "{:#?}", looks);
        prop_assert_eq!((gaps.held_since(), gaps.young()), (None, vec![]));
    }

    /// What a look costs: a missing id is read again only while its gap is young, and when a transaction ends that was running
    /// when the gap stopped being young.
    #[test]
    fn an_id_is_read_again_only_when_one_that_may_bring_it_has_ended(rounds in rounds()) {
        let (_, _, looks) = play(&rounds);
        // When an id was first missed, and what ran when its gap stopped being young.
        let mut missed: BTreeMap<i64, (Instant, Option<&Snapshot>)> = BTreeMap::new();
        let mut read: BTreeSet<i64> = BTreeSet::new();
        for (earlier, look) in looks.iter().zip(&looks[1..]) {
            read.extend(&earlier.ids);
            let young: BTreeSet<_> = ids_of(&look.young).collect();
            for id in (earlier.floor + 1..=earlier.newest).filter(|id| !read.contains(id)) {
                let (_, noted) = missed.entry(id).or_insert((earlier.read, None));
                if !young.contains(&id) {
                    noted.get_or_insert(&earlier.snapshot);
                }
            }
            for id in young {
                let (since, _) = missed[&id];
                prop_assert!(earlier.asked < since + SECOND, "{} is not young in {:#?}", id, look);
            }
            for id in ids_of(&look.filled) {
                let noted = missed[&id].1.map(Snapshot::running);
                let mut ended = noted.iter().flat_map(|noted| noted.iter())
                    .filter(|number| look.snapshot.has_ended(**number));
                prop_assert!(
                    ended.any(|number| !earlier.snapshot.has_ended(*number)),
                    "{} is read in vain by {:#?}", id, look
                );
            }
        }
    }
}
