//! Folds rows of `incident_history` into events: the rows of one transaction, incident and contact become one event, with the
//! severity at the time of the event.
//!
//! `xmin` shows which transaction wrote a row last. That is the transaction of Icinga's event until the channel's result is
//! written to the row. After that, a row is recognized by its position: the rows of one event have one channel each, the same
//! message, and no row of another kind between them, because Icinga writes those first in a transaction and handles one event of
//! an incident at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::database::{HistoryRow, Kind, Notified};
use crate::model::ids::{ContactId, HistoryId, IncidentId};

/// The result for one or more rows.
#[derive(Debug)]
pub(super) enum Folded {
    /// An event for a contact.
    Event {
        /// The rows that it covers. It is made from the first.
        history_ids: Vec<HistoryId>,
        incident_id: IncidentId,
        notified: Notified,
    },
    /// A row of an event that an earlier look made. Nothing is shown, and a replay must not show it either.
    Covered {
        history_id: HistoryId,
        contact_id: ContactId,
    },
}

/// The incident and the contact of an event.
type Subject = (IncidentId, ContactId);

/// The state kept between looks.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// The events, by their first row.
    made: BTreeMap<(Subject, HistoryId), Made>,
    /// The first row of each event, by transaction.
    transactions: HashMap<(i64, Subject), HistoryId>,
    /// By incident: its rows above the floor that notify nobody, and the last such row up to the floor. Rows that changed the
    /// severity have the old one.
    others: HashMap<IncidentId, BTreeMap<HistoryId, Option<String>>>,
    floor: HistoryId,
    /// The number of the look.
    look: u64,
    /// The number of the call of [`Self::fold`]: a look may read several pages.
    page: u64,
}

/// An event that was made, with what identifies further rows of it.
#[derive(Debug)]
struct Made {
    /// The transaction of its rows without a channel's result; `None` if all have one.
    transaction: Option<i64>,
    /// Usually one or two.
    channels: Vec<i64>,
    /// The message's hash.
    message: u64,
    look: u64,
    /// The page whose results have it.
    page: u64,
    /// Its index there.
    index: usize,
}

/// The hash of a message, so that messages are not kept.
fn hash(message: &Option<Arc<str>>) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

impl Made {
    /// Whether an adjacent row belongs to this event, if they have to be recognized by their position.
    fn takes(&self, notified: &Notified) -> bool {
        let again = notified
            .channel_id
            .is_some_and(|id| self.channels.contains(&id));
        (notified.answered || self.transaction.is_none())
            && !again
            && self.message == hash(&notified.message)
    }
}

impl Fold {
    /// Folds the rows of a look, in ascending order of ids.
    pub(super) fn fold(&mut self, rows: Vec<HistoryRow>) -> Vec<Folded> {
        for row in &rows {
            let old_severity = match &row.kind {
                Kind::Changed { old_severity } => old_severity.clone(),
                Kind::Other => None,
                Kind::Notified(_) | Kind::NotSent => continue,
            };
            let others = self.others.entry(row.incident_id).or_default();
            others.insert(row.history_id, old_severity);
        }
        self.page += 1;
        let mut folded = Vec::new();
        for row in rows {
            self.fold_row(row, &mut folded);
        }
        folded
    }

    fn fold_row(&mut self, row: HistoryRow, folded: &mut Vec<Folded>) {
        let Kind::Notified(mut notified) = row.kind else {
            return;
        };
        let (history_id, contact_id) = (row.history_id, notified.contact_id);
        let subject = (row.incident_id, contact_id);
        let transaction = (!notified.answered).then_some(row.transaction);
        if let Some(first) = self.known(history_id, subject, transaction, &notified)
            && let Some(made) = self.made.get_mut(&(subject, first))
        {
            if let Some(transaction) = transaction {
                made.transaction = Some(transaction);
                self.transactions.insert((transaction, subject), first);
            }
            made.channels.extend(notified.channel_id);
            match folded.get_mut(made.index) {
                Some(Folded::Event { history_ids, .. }) if made.page == self.page => {
                    history_ids.push(history_id);
                }
                _ => folded.push(Folded::Covered {
                    history_id,
                    contact_id,
                }),
            }
            return;
        }
        let made = Made {
            transaction,
            channels: notified.channel_id.into_iter().collect(),
            message: hash(&notified.message),
            look: self.look,
            page: self.page,
            index: folded.len(),
        };
        self.made.insert((subject, history_id), made);
        if let Some(transaction) = transaction {
            self.transactions.insert((transaction, subject), history_id);
        }
        // The first change after it has the severity of its time as the old one.
        let others = self.others.get(&row.incident_id).into_iter();
        let mut changes = others.flat_map(|others| others.range(history_id..));
        if let Some(severity) = changes.find_map(|(_, severity)| severity.as_ref()) {
            notified.severity = severity.as_str().into();
        }
        folded.push(Folded::Event {
            history_ids: vec![history_id],
            incident_id: row.incident_id,
            notified,
        });
    }

    /// The first row of the event that a row belongs to; `None` if the event is new.
    fn known(
        &self,
        history_id: HistoryId,
        subject: Subject,
        transaction: Option<i64>,
        notified: &Notified,
    ) -> Option<HistoryId> {
        if let Some(first) = transaction.and_then(|t| self.transactions.get(&(t, subject))) {
            return Some(*first);
        }
        let all = (subject, HistoryId(i64::MIN))..=(subject, HistoryId(i64::MAX));
        let before = self
            .made
            .range(*all.start()..(subject, history_id))
            .next_back();
        let after = self.made.range((subject, history_id)..=*all.end()).next();
        let beside = before.into_iter().chain(after);
        let others = self.others.get(&subject.0);
        beside
            .filter(|((_, first), made)| {
                let (low, high) = (history_id.min(*first), history_id.max(*first));
                let between = others.is_some_and(|o| o.range(low..high).next().is_some());
                !between && made.takes(notified)
            })
            .map(|((_, first), _)| *first)
            .next()
    }

    /// Ends a look. No row up to `floor` is missing. Rows are `awaited` if running transactions may still add some: the next
    /// look, but no later one, can then read further rows of events of this look.
    pub(super) fn end_look(&mut self, floor: HistoryId, awaited: bool) {
        let last = self.look;
        self.look += 1;
        if awaited {
            self.made.retain(|_, made| made.look >= last);
            let made = &self.made;
            self.transactions
                .retain(|(_, subject), first| made.contains_key(&(*subject, *first)));
        } else {
            self.made = BTreeMap::new();
            self.transactions = HashMap::new();
        }
        if floor > self.floor {
            self.settle(floor);
        }
    }

    /// Forgets what no row above `floor` needs. The last row up to the floor that notifies nobody is kept, because it can
    /// separate an event from the rows of the next.
    fn settle(&mut self, floor: HistoryId) {
        self.floor = floor;
        let made: HashSet<_> = self
            .made
            .keys()
            .map(|((incident_id, _), _)| *incident_id)
            .collect();
        self.others.retain(|incident_id, others| {
            let settled = others.range(..=floor).next_back();
            let last = settled.map_or(floor, |(history_id, _)| *history_id);
            let kept = made.contains(incident_id);
            others.retain(|history_id, _| *history_id > floor || kept && *history_id == last);
            !others.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn row(history_id: i64, transaction: i64, incident_id: i64, kind: Kind) -> HistoryRow {
        HistoryRow {
            history_id: HistoryId(history_id),
            transaction,
            incident_id: IncidentId(incident_id),
            kind,
        }
    }

    /// A row without a channel and without a result.
    fn notified(contact_id: i64) -> Kind {
        notified_kind(contact_id, None, false)
    }

    fn notified_kind(contact_id: i64, channel_id: Option<i64>, answered: bool) -> Kind {
        Kind::Notified(Notified {
            contact_id: ContactId(contact_id),
            channel_id,
            answered,
            time_ms: 0,
            severity: "now".into(),
            title: "".into(),
            message: None,
        })
    }

    fn changed(from: &str) -> Kind {
        Kind::Changed {
            old_severity: Some(from.to_owned()),
        }
    }

    /// The ids and the severity of each event; for covered rows only the id.
    fn fold(fold: &mut Fold, rows: Vec<HistoryRow>) -> Vec<(Vec<i64>, String)> {
        let folded = fold.fold(rows).into_iter().map(|folded| match folded {
            Folded::Event {
                history_ids,
                notified,
                ..
            } => (
                history_ids.iter().map(|id| id.0).collect(),
                notified.severity.to_string(),
            ),
            Folded::Covered { history_id, .. } => (vec![history_id.0], String::new()),
        });
        folded.collect()
    }

    #[test]
    fn channels_are_one_event_and_transactions_are_two() {
        let rows = vec![
            row(1, 9, 1, notified(7)),
            row(2, 9, 1, notified(8)),
            row(3, 9, 1, notified(7)),
            row(4, 9, 2, notified(7)),
            row(5, 10, 1, notified(7)),
        ];
        let ids = |folded: Vec<(Vec<i64>, String)>| -> Vec<Vec<i64>> {
            folded.into_iter().map(|(ids, _)| ids).collect()
        };
        let mut all = Fold::default();
        let expected: Vec<Vec<i64>> = vec![vec![1, 3], vec![2], vec![4], vec![5]];
        assert_eq!(ids(fold(&mut all, rows)), expected);
    }

    #[test]
    fn rows_that_an_earlier_look_did_not_see_are_covered() {
        let mut some = Fold::default();
        fold(&mut some, vec![row(2, 9, 1, notified(7))]);
        let rows = |id| vec![row(id, 9, 1, notified(7))];
        assert_eq!(fold(&mut some, rows(1)), [(vec![1], String::new())]);
        some.end_look(HistoryId(0), true);
        assert_eq!(fold(&mut some, rows(3)), [(vec![3], String::new())]);
        // Only the next look can read further rows of a transaction.
        some.end_look(HistoryId(0), true);
        assert_eq!(fold(&mut some, rows(4)), [(vec![4], "now".to_owned())]);
        some.end_look(HistoryId(0), false);
        assert_eq!(fold(&mut some, rows(5)), [(vec![5], "now".to_owned())]);
    }

    #[test]
    fn a_severity_is_that_of_the_rows_time() {
        let mut some = Fold::default();
        let folded = fold(
            &mut some,
            vec![
                row(1, 9, 1, changed("ok")),
                row(2, 9, 1, notified(7)),
                row(4, 10, 1, changed("warning")),
                row(5, 10, 1, notified(7)),
                row(6, 11, 2, changed("err")),
            ],
        );
        let expected = [(vec![2], "warning".to_owned()), (vec![5], "now".to_owned())];
        assert_eq!(folded, expected);
        // It was committed later.
        let late = vec![row(3, 8, 1, notified(7))];
        assert_eq!(fold(&mut some, late), [(vec![3], "warning".to_owned())]);
        some.settle(HistoryId(5));
        let left: Vec<_> = some.others[&IncidentId(1)].keys().map(|id| id.0).collect();
        assert_eq!((some.others.len(), left), (2, vec![4]));
        some.end_look(HistoryId(6), false);
        assert!(some.others.is_empty());
    }

    #[test]
    fn rows_with_a_channel_result_are_recognized_by_position() {
        let mut some = Fold::default();
        let rows = vec![
            row(1, 9, 1, changed("ok")),
            // Its answer was written by transaction 20, that of the next by 21.
            row(2, 20, 1, notified_kind(7, Some(1), true)),
            row(3, 21, 1, notified_kind(7, Some(2), true)),
            row(4, 9, 1, notified_kind(7, Some(3), false)),
            // Another event, on the same channel.
            row(5, 22, 1, notified_kind(7, Some(1), true)),
            row(6, 10, 1, notified_kind(7, Some(2), false)),
            // And one after a change.
            row(7, 11, 1, changed("crit")),
            row(8, 23, 1, notified_kind(7, Some(3), true)),
            row(9, 24, 1, notified_kind(7, Some(4), true)),
        ];
        let ids: Vec<_> = (fold(&mut some, rows).into_iter())
            .map(|(ids, _)| ids)
            .collect();
        assert_eq!(ids, [vec![2, 3, 4], vec![5, 6], vec![8, 9]]);
        let late = vec![row(10, 25, 1, notified_kind(7, Some(5), true))];
        assert_eq!(fold(&mut some, late), [(vec![10], String::new())]);
    }

    /// Icinga's transaction, incident and contact.
    type Key = (i64, i64, i64);

    /// The keys of `notified` rows by id, if no channel has answered for any of them.
    fn keys(rows: &[HistoryRow]) -> BTreeMap<i64, Key> {
        let key = |row: &HistoryRow| match &row.kind {
            Kind::Notified(notified) => {
                let key = (row.transaction, row.incident_id.0, notified.contact_id.0);
                Some((row.history_id.0, key))
            }
            _ => None,
        };
        rows.iter().filter_map(key).collect()
    }

    /// The events and rows sent so far.
    #[derive(Default)]
    struct Sent {
        events: BTreeSet<Key>,
        rows: BTreeSet<i64>,
    }

    impl Sent {
        /// Records a result for rows of these `keys`. A key has one event, and a row has one result.
        fn take(
            &mut self,
            folded: &Folded,
            keys: &BTreeMap<i64, Key>,
        ) -> Result<(), TestCaseError> {
            let (ids, contact_id) = match folded {
                Folded::Event {
                    history_ids,
                    incident_id,
                    notified,
                } => {
                    let key = keys[&history_ids[0].0];
                    prop_assert!(
                        self.events.insert(key),
                        "{:?} has another one: {:?}",
                        key,
                        folded
                    );
                    prop_assert_eq!(incident_id.0, key.1);
                    (&history_ids[..], notified.contact_id)
                }
                Folded::Covered {
                    history_id,
                    contact_id,
                } => (std::slice::from_ref(history_id), *contact_id),
            };
            let key = keys[&ids[0].0];
            prop_assert!(self.events.contains(&key), "{:?} by nothing", folded);
            prop_assert_eq!(contact_id.0, key.2);
            for id in ids {
                prop_assert!(self.rows.insert(id.0), "{:?} twice", id);
                prop_assert_eq!(keys[&id.0], key, "{:?}", folded);
            }
            Ok(())
        }

        /// All events have been checked.
        fn finish(self, keys: BTreeMap<i64, Key>) -> Result<(), TestCaseError> {
            prop_assert!(self.rows.iter().eq(keys.keys()));
            prop_assert_eq!(self.events, keys.into_values().collect());
            Ok(())
        }
    }

    /// Rows with ids from 1, without results of channels, and the look that reads each.
    fn rows_and_looks() -> impl Strategy<Value = Vec<(HistoryRow, usize)>> {
        let kind = prop_oneof![
            4 => (1..4_i64, proptest::option::of(1..3_i64))
                .prop_map(|(contact_id, channel_id)| notified_kind(contact_id, channel_id, false)),
            1 => select(vec!["ok", "warning", "crit"]).prop_map(changed),
            1 => select(vec![Kind::NotSent, Kind::Other, Kind::Changed { old_severity: None }]),
        ];
        vec((1..5_i64, 1..4_i64, kind, 0..4_usize), 0..30).prop_map(|rows| {
            let numbered = (1..).zip(rows);
            numbered
                .map(|(id, (transaction, incident_id, kind, look))| {
                    (row(id, transaction, incident_id, kind), look)
                })
                .collect()
        })
    }

    /// The severity at a row's time, according to the rows that were read.
    fn severity_at(read: &[HistoryRow], history_id: HistoryId, incident_id: IncidentId) -> &str {
        let later = read
            .iter()
            .filter(|row| row.incident_id == incident_id && row.history_id > history_id);
        let changes = later.filter_map(|row| match &row.kind {
            Kind::Changed { old_severity } => Some((row.history_id, old_severity.as_deref()?)),
            _ => None,
        });
        changes.min().map_or("now", |(_, severity)| severity)
    }

    /// Transactions as Icinga writes them, each for one incident: a row that notifies nobody, and then one for each contact and
    /// channel, some with the channel's result. With the keys.
    fn transactions() -> impl Strategy<Value = (Vec<HistoryRow>, BTreeMap<i64, Key>)> {
        // By contact and channel, whether there is a result.
        let notified = vec(vec(proptest::option::of(any::<bool>()), 0..4), 3);
        vec((1..3_i64, notified), 0..8).prop_map(|transactions| {
            let (mut rows, mut keys) = (Vec::new(), BTreeMap::new());
            for (transaction, (incident_id, contacts)) in (1..).zip(transactions) {
                let mut write = |transaction, kind| {
                    let id = rows.len() as i64 + 1;
                    rows.push(row(id, transaction, incident_id, kind));
                    id
                };
                write(transaction, Kind::Other);
                for (contact_id, channels) in (1..).zip(contacts) {
                    let used = (1..)
                        .zip(channels)
                        .filter_map(|(id, answered)| Some((id, answered?)));
                    for (channel_id, answered) in used {
                        let kind = notified_kind(contact_id, Some(channel_id), answered);
                        // The transaction that wrote the result.
                        let answer = 1000 * transaction + 10 * contact_id + channel_id;
                        let id = write(if answered { answer } else { transaction }, kind);
                        keys.insert(id, (transaction, incident_id, contact_id));
                    }
                }
            }
            (rows, keys)
        })
    }

    proptest! {
        #[test]
        fn rows_of_a_transaction_incident_and_contact_are_one_event_whichever_look_reads_them(
            rows in rows_and_looks()
        ) {
            let mut fold = Fold::default();
            let (mut read, mut all) = (Vec::new(), Sent::default());
            for look in 0..4 {
                let of_look = rows.iter().filter(|(_, of)| *of == look).map(|(row, _)| row.clone());
                let of_look: Vec<_> = of_look.collect();
                read.extend(of_look.iter().cloned());
                for folded in fold.fold(of_look) {
                    all.take(&folded, &keys(&read))?;
                    if let Folded::Event { history_ids, incident_id, notified } = folded {
                        let severity = severity_at(&read, history_ids[0], incident_id);
                        prop_assert_eq!(&*notified.severity, severity, "{:?}", history_ids);
                    }
                }
                // Up to the first row that is still missing.
                let to_come = rows.iter().filter(|(_, of)| *of > look).map(|(row, _)| row.history_id.0).min();
                fold.settle(HistoryId(to_come.map_or(i64::MAX, |id| id - 1)));
            }
            prop_assert!(fold.others.values().all(|others| others.len() == 1));
            all.finish(keys(&read))?;
        }

        #[test]
        fn channel_results_do_not_split_events_for_any_page_size(
            (rows, keys) in transactions(), page in 1..9_usize
        ) {
            let mut fold = Fold::default();
            let mut all = Sent::default();
            for page in rows.chunks(page) {
                for folded in fold.fold(page.to_vec()) {
                    all.take(&folded, &keys)?;
                }
                fold.settle(page[page.len() - 1].history_id);
            }
            all.finish(keys)?;
        }
    }
}
