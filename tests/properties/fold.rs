//! Which notifications of a transaction are one event, against the two rules applied to the whole transaction.

use std::collections::{BTreeMap, BTreeSet};

use icinga_desktop_bridge::model::ids::{ContactId, HistoryId, IncidentId};
use icinga_desktop_bridge::model::notification::{Kind, Notification, Severity};
use icinga_desktop_bridge::resolve::{Announcement, Fold};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::values::SEVERITIES;

#[derive(Debug, Clone, Copy)]
enum Write {
    Row {
        incident_id: IncidentId,
        contact_id: ContactId,
        announced: bool,
    },
    Severity {
        incident_id: IncidentId,
        severity: Severity,
    },
}

fn write() -> impl Strategy<Value = Write> {
    let row =
        (1..4_i64, 1..4_i64, any::<bool>()).prop_map(|(incident_id, contact_id, announced)| {
            Write::Row {
                incident_id: IncidentId(incident_id),
                contact_id: ContactId(contact_id),
                announced,
            }
        });
    let severity =
        (1..5_i64, select(&SEVERITIES[..3])).prop_map(|(incident_id, severity)| Write::Severity {
            incident_id: IncidentId(incident_id),
            severity,
        });
    prop_oneof![row, severity]
}

/// Transactions one after the other, as NOTIFY delivers them, each of any writes in any order. History ids
/// go up over all of them, so they tell which row was meant.
fn deliveries() -> impl Strategy<Value = Vec<Vec<Notification>>> {
    vec(vec(write(), 1..9), 0..6).prop_map(|transactions| {
        let mut history_ids = (1..).map(HistoryId);
        let mut notification = |tx, write| match write {
            Write::Row {
                incident_id,
                contact_id,
                announced,
            } => {
                let history_id = history_ids.next().unwrap_or_default();
                Notification {
                    tx,
                    incident_id,
                    kind: Kind::Notified {
                        history_id,
                        contact_id,
                        announced,
                    },
                }
            }
            Write::Severity {
                incident_id,
                severity,
            } => Notification {
                tx,
                incident_id,
                kind: Kind::Changed { severity },
            },
        };
        let numbered = (100_u64..).zip(transactions);
        numbered
            .map(|(tx, writes)| {
                writes
                    .into_iter()
                    .map(|write| notification(tx, write))
                    .collect()
            })
            .collect()
    })
}

/// What a transaction is to announce.
#[derive(Debug, Default, PartialEq)]
struct Announced {
    /// (contact, rows) of each event by rule A.
    notified: BTreeSet<(ContactId, Vec<HistoryId>)>,
    /// Incidents by rule B, with the severity.
    changed: BTreeMap<IncidentId, Option<&'static str>>,
}

/// Rules A and B, as the design's first section has them, for one whole transaction.
fn expected(transaction: &[Notification]) -> Announced {
    let mut rows: BTreeMap<(IncidentId, ContactId), Vec<HistoryId>> = BTreeMap::new();
    let mut decided = BTreeSet::new();
    let mut written: BTreeMap<IncidentId, Vec<Severity>> = BTreeMap::new();
    for notification in transaction {
        let incident_id = notification.incident_id;
        match notification.kind {
            Kind::Notified {
                history_id,
                contact_id,
                announced,
            } => {
                decided.insert(incident_id);
                if announced {
                    rows.entry((incident_id, contact_id))
                        .or_default()
                        .push(history_id);
                }
            }
            Kind::Changed { severity } => written.entry(incident_id).or_default().push(severity),
        }
    }
    let sole = |written: &[Severity]| match written {
        [severity] => Some(severity.as_str()),
        _ => None,
    };
    Announced {
        notified: rows
            .into_iter()
            .map(|((_, contact_id), rows)| (contact_id, rows))
            .collect(),
        changed: written
            .into_iter()
            .filter(|(incident_id, _)| !decided.contains(incident_id))
            .map(|(incident_id, written)| (incident_id, sole(&written)))
            .collect(),
    }
}

/// Collects announcements. A covered row is put with its contact's event; as each row is of one incident,
/// `incidents` knows which.
fn announced(
    announcements: &[Announcement],
    incidents: &BTreeMap<HistoryId, IncidentId>,
) -> Result<Announced, TestCaseError> {
    let mut notified: BTreeMap<(IncidentId, ContactId), Vec<HistoryId>> = BTreeMap::new();
    let mut changed = BTreeMap::new();
    for announcement in announcements {
        match announcement {
            Announcement::Notified {
                history_ids,
                contact_id,
                ..
            } => {
                let key = (incidents[&history_ids[0]], *contact_id);
                prop_assert!(
                    notified.insert(key, history_ids.clone()).is_none(),
                    "{:?} twice",
                    key
                );
            }
            Announcement::Covered {
                history_id,
                contact_id,
            } => {
                let rows = notified.get_mut(&(incidents[history_id], *contact_id));
                let Some(rows) = rows else {
                    return Err(TestCaseError::fail(format!(
                        "{history_id} is covered by nothing"
                    )));
                };
                rows.push(*history_id);
            }
            Announcement::Changed {
                incident_id,
                severity,
            } => {
                let word = severity.map(Severity::as_str);
                prop_assert!(
                    changed.insert(*incident_id, word).is_none(),
                    "{} twice",
                    incident_id
                );
            }
        }
    }
    let notified = notified
        .into_iter()
        .map(|((_, contact_id), rows)| (contact_id, rows))
        .collect();
    Ok(Announced { notified, changed })
}

fn incidents(transaction: &[Notification]) -> BTreeMap<HistoryId, IncidentId> {
    let row = |notification: &Notification| match notification.kind {
        Kind::Notified { history_id, .. } => Some((history_id, notification.incident_id)),
        Kind::Changed { .. } => None,
    };
    transaction.iter().filter_map(row).collect()
}

/// The severity that a transaction gives an incident, if it gives one.
fn sole_severity(transaction: &[Notification], incident_id: IncidentId) -> Option<Severity> {
    let written: Vec<_> = transaction
        .iter()
        .filter_map(|notification| match notification.kind {
            Kind::Changed { severity } if notification.incident_id == incident_id => Some(severity),
            _ => None,
        })
        .collect();
    (written.len() == 1).then(|| written[0])
}

/// What comes out of a fold that is asked after some notifications, for transactions of which some are known to be over.
fn in_parts(
    deliveries: &[Vec<Notification>],
    cuts: Vec<bool>,
    settles: Vec<bool>,
) -> Vec<Announcement> {
    let mut fold = Fold::default();
    let mut cuts = cuts.into_iter();
    let mut told = Vec::new();
    for (transaction, settled) in deliveries.iter().zip(settles) {
        for notification in transaction {
            fold.push(notification, 1);
            if cuts.next() == Some(true) {
                told.push(fold.take_ready());
            }
        }
        if settled {
            fold.settled();
            // Said twice: a transaction's messages may come in two reads, both of which end all.
            fold.settled();
        }
    }
    fold.settled();
    told.push(fold.take_ready());
    told.concat()
}

proptest! {
    #[test]
    fn a_transaction_heard_whole_tells_each_contact_of_an_incident_once_with_its_severity(
        deliveries in deliveries()
    ) {
        let mut fold = Fold::default();
        for transaction in &deliveries {
            for notification in transaction {
                fold.push(notification, 1);
            }
            fold.settled();
            let ready = fold.take_ready();
            let incidents = incidents(transaction);
            prop_assert_eq!(announced(&ready, &incidents)?, expected(transaction));
            for announcement in &ready {
                let covered = matches!(announcement, Announcement::Covered { .. });
                prop_assert!(!covered, "all rows were there");
                if let Announcement::Notified { history_ids, severity, .. } = announcement {
                    let incident_id = incidents[&history_ids[0]];
                    prop_assert_eq!(*severity, sole_severity(transaction, incident_id));
                }
            }
        }
    }

    /// With `settles`, announcements of a transaction come at its end; without, at the next one's begin. A severity may not
    /// have been heard yet when they are taken.
    #[test]
    fn a_transaction_heard_in_parts_tells_each_contact_of_an_incident_once(
        deliveries in deliveries(), cuts in vec(any::<bool>(), 64), settles in vec(any::<bool>(), 6)
    ) {
        let told = in_parts(&deliveries, cuts, settles);
        // Which transaction a row is of is known by the row; changes are counted over all.
        let mut changes: BTreeMap<(IncidentId, Option<&str>), usize> = BTreeMap::new();
        for announcement in &told {
            if let Announcement::Changed { incident_id, severity } = announcement {
                *changes.entry((*incident_id, severity.map(Severity::as_str))).or_default() += 1;
            }
        }
        for transaction in &deliveries {
            let incidents = incidents(transaction);
            let of_it: Vec<_> = told.iter().filter(|announcement| match announcement {
                Announcement::Notified { history_ids, .. } => incidents.contains_key(&history_ids[0]),
                Announcement::Covered { history_id, .. } => incidents.contains_key(history_id),
                Announcement::Changed { .. } => false,
            }).cloned().collect();
            let expected = expected(transaction);
            prop_assert_eq!(announced(&of_it, &incidents)?.notified, expected.notified);
            for change in expected.changed {
                let count = changes.get_mut(&change);
                prop_assert!(count.is_some(), "{:?} is not told", change);
                if let Some(count) = count {
                    *count = count.wrapping_sub(1);
                }
            }
        }
        prop_assert!(changes.values().all(|count| *count == 0), "told, but not to be: {:?}", changes);
    }
}
