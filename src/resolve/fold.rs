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
mod tests;
