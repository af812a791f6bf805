//! Folds the notifications of one transaction: same transaction, incident and contact are one event,
//! and Icinga's own choice of contacts replaces the incident's recipients.
//!
//! PostgreSQL delivers the notifications of one transaction together and in the order of the writes,
//! so a notification of another transaction ends the one before. Where nothing follows, the listener
//! reports [`Fold::settled`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::model::ids::{ContactId, HistoryId, IncidentId};
use crate::model::notification::{Kind, Notification, Severity};

/// Something to look up and to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// History rows name the contact.
    Notified {
        /// The rows, one per channel; the first is the one to read.
        history_ids: Vec<HistoryId>,
        /// The contact.
        contact_id: ContactId,
        /// The severity that the same transaction gave the incident, if it gave it just one.
        severity: Option<Severity>,
    },
    /// A row that belongs to an announcement which was taken already: nothing to tell, but a replay must
    /// not tell it either.
    Covered {
        /// The row.
        history_id: HistoryId,
        /// The contact.
        contact_id: ContactId,
    },
    /// The incident's recipients are to be told of its severity.
    Changed {
        /// The incident.
        incident_id: IncidentId,
        /// Its new severity, if the transaction gave it just one.
        severity: Option<Severity>,
    },
}

/// The transaction that is being received, and what those before it left to tell.
#[derive(Debug, Default)]
pub struct Fold {
    /// By backend and number: a forged notification comes from another backend.
    tx: Option<(i32, u64)>,
    /// Incidents for which a history row was seen: Icinga has decided whom to notify.
    decided: HashSet<IncidentId>,
    /// (incident, contact) named by a history row, so that a second channel of theirs adds no event.
    named: HashSet<(IncidentId, ContactId)>,
    /// `None` for an incident that was given several: PostgreSQL folds equal payloads of a transaction
    /// into the first, so the last one heard need not be the last one written.
    severities: HashMap<IncidentId, Option<Severity>>,
    /// Changed incidents, in order, until it is known whether history rows came with them.
    held: Vec<IncidentId>,
    open: Vec<Open>,
    ready: Vec<Announcement>,
}

/// An announcement to which more may still be added.
#[derive(Debug)]
struct Open {
    history_ids: Vec<HistoryId>,
    contact_id: ContactId,
    incident_id: IncidentId,
}

impl Fold {
    /// Takes one notification, of a transaction of `backend`.
    pub fn push(&mut self, notification: &Notification, backend: i32) {
        let tx = Some((backend, notification.tx));
        if self.tx != tx {
            self.settled();
            self.tx = tx;
            self.decided.clear();
            self.named.clear();
            self.severities.clear();
        }
        let incident_id = notification.incident_id;
        match notification.kind {
            Kind::Notified {
                history_id,
                contact_id,
                announced,
            } => {
                self.decided.insert(incident_id);
                if announced {
                    self.name(history_id, contact_id, incident_id);
                }
            }
            Kind::Changed { severity } => match self.severities.entry(incident_id) {
                Entry::Occupied(mut entry) => {
                    entry.insert(None);
                }
                Entry::Vacant(entry) => {
                    entry.insert(Some(severity));
                    self.held.push(incident_id);
                }
            },
        }
    }

    /// Says that the transaction has been received to its end: what was held back is announced.
    pub fn settled(&mut self) {
        self.close_rows();
        for incident_id in std::mem::take(&mut self.held) {
            if !self.decided.contains(&incident_id) {
                let severity = self.severities[&incident_id];
                self.ready.push(Announcement::Changed {
                    incident_id,
                    severity,
                });
            }
        }
    }

    /// What can be told by now, in the order of the writes.
    ///
    /// Ends nothing: rows of the same transaction that are heard later are still known to belong to it.
    pub fn take_ready(&mut self) -> Vec<Announcement> {
        self.close_rows();
        std::mem::take(&mut self.ready)
    }

    fn name(&mut self, history_id: HistoryId, contact_id: ContactId, incident_id: IncidentId) {
        if self.named.insert((incident_id, contact_id)) {
            self.open.push(Open {
                history_ids: vec![history_id],
                contact_id,
                incident_id,
            });
            return;
        }
        let same =
            |open: &&mut Open| (open.contact_id, open.incident_id) == (contact_id, incident_id);
        match self.open.iter_mut().rev().find(same) {
            Some(open) => open.history_ids.push(history_id),
            // The first one was taken already, in an earlier batch.
            None => self.ready.push(Announcement::Covered {
                history_id,
                contact_id,
            }),
        }
    }

    fn close_rows(&mut self) {
        for open in self.open.drain(..) {
            self.ready.push(Announcement::Notified {
                history_ids: open.history_ids,
                contact_id: open.contact_id,
                severity: self.severities.get(&open.incident_id).copied().flatten(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKEND: i32 = 4711;

    fn row(tx: u64, incident_id: i64, contact_id: i64, announced: bool) -> Notification {
        let history_id = HistoryId(1000 + contact_id);
        let kind = Kind::Notified {
            history_id,
            contact_id: ContactId(contact_id),
            announced,
        };
        Notification {
            tx,
            incident_id: IncidentId(incident_id),
            kind,
        }
    }

    fn change(tx: u64, incident_id: i64, severity: Severity) -> Notification {
        Notification {
            tx,
            incident_id: IncidentId(incident_id),
            kind: Kind::Changed { severity },
        }
    }

    fn notified(contact_id: i64, severity: Option<Severity>) -> Announcement {
        Announcement::Notified {
            history_ids: vec![HistoryId(1000 + contact_id)],
            contact_id: ContactId(contact_id),
            severity,
        }
    }

    fn fold(notifications: &[Notification]) -> Fold {
        let mut fold = Fold::default();
        for notification in notifications {
            fold.push(notification, BACKEND);
        }
        fold
    }

    #[test]
    fn two_channels_of_a_contact_are_one_event_with_the_severity_written_last() {
        let mut fold = fold(&[
            row(1, 42, 7, true),
            row(1, 42, 7, true),
            row(1, 42, 8, true),
            change(1, 42, Severity::Crit),
        ]);
        let crit = Some(Severity::Crit);
        let both = Announcement::Notified {
            history_ids: vec![HistoryId(1007); 2],
            contact_id: ContactId(7),
            severity: crit,
        };
        assert_eq!(fold.take_ready(), [both, notified(8, crit)]);
        fold.settled();
        assert_eq!(fold.take_ready(), []);
        // A channel whose row comes in a later batch is no second event.
        fold.push(&row(1, 42, 8, true), BACKEND);
        let covered = Announcement::Covered {
            history_id: HistoryId(1008),
            contact_id: ContactId(8),
        };
        assert_eq!(fold.take_ready(), [covered]);
    }

    #[test]
    fn rows_decide_whether_they_come_before_or_after_the_change() {
        for announced in [true, false] {
            let rows = if announced {
                vec![notified(7, Some(Severity::Err))]
            } else {
                vec![]
            };
            let (row, change) = (row(1, 42, 7, announced), change(1, 42, Severity::Err));
            for order in [[row.clone(), change.clone()], [change, row]] {
                let mut fold = fold(&order);
                fold.settled();
                assert_eq!(fold.take_ready(), rows);
            }
        }
    }

    #[test]
    fn a_change_without_rows_waits_for_the_end_of_its_transaction() {
        let alone = change(1, 42, Severity::Ok);
        let announced = Announcement::Changed {
            incident_id: IncidentId(42),
            severity: Some(Severity::Ok),
        };
        let mut ended = fold(std::slice::from_ref(&alone));
        assert_eq!(ended.take_ready(), []);
        ended.settled();
        assert_eq!(ended.take_ready(), std::slice::from_ref(&announced));

        let mut followed = fold(&[alone, row(2, 43, 7, true)]);
        assert_eq!(followed.take_ready(), [announced, notified(7, None)]);
    }

    #[test]
    fn transactions_are_told_apart() {
        let mut fold = fold(&[
            row(1, 42, 7, true),
            row(2, 42, 7, true),
            change(2, 42, Severity::Alert),
        ]);
        let alert = Some(Severity::Alert);
        assert_eq!(fold.take_ready(), [notified(7, None), notified(7, alert)]);
    }

    #[test]
    fn nobody_can_pretend_to_be_of_the_transaction() {
        // Somebody guesses the transaction, and says that Icinga has decided, or that the contact was told.
        for forged in [row(1, 42, 7, false), row(1, 42, 7, true)] {
            let mut fold = Fold::default();
            fold.push(&forged, BACKEND + 1);
            fold.take_ready();
            fold.push(&row(1, 42, 7, true), BACKEND);
            assert_eq!(fold.take_ready(), [notified(7, None)]);
            fold.push(&forged, BACKEND + 1);
            fold.push(&change(1, 42, Severity::Ok), BACKEND);
            fold.settled();
            let announced = Announcement::Changed {
                incident_id: IncidentId(42),
                severity: Some(Severity::Ok),
            };
            assert_eq!(fold.take_ready().last(), Some(&announced));
        }
    }

    #[test]
    fn of_several_severities_in_a_transaction_none_is_taken_for_the_last() {
        // Written as crit, warning, crit: the second crit is not sent again.
        let mut fold = fold(&[
            change(1, 42, Severity::Crit),
            change(1, 42, Severity::Warning),
        ]);
        fold.settled();
        let announced = Announcement::Changed {
            incident_id: IncidentId(42),
            severity: None,
        };
        assert_eq!(fold.take_ready(), [announced]);
    }
}
