//! Remembers refused browsers and ended sign-ins for `explain`, within limits.
//!
//! Only requests that name a session of the database, or one that had streams on this bridge, are remembered: a flood of forged
//! requests leaves no trace. A user who signs in again and again cannot displace what is known about others.

use std::collections::VecDeque;

use crate::model::browser::BrowserKey;
use crate::model::explanation::{Refused, Why, now_s};
use crate::model::ids::ContactId;
use crate::model::sign_in::Refusal;

/// How many are remembered for all users: 100 KB.
const REMEMBERED: usize = 2048;

/// How many are remembered per contact.
const OF_CONTACT: usize = 8;

/// How many are remembered for all users without a contact together.
const OF_NOBODY: usize = 256;

/// The entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    contact_id: Option<ContactId>,
    refused: Refused,
}

impl Refusals {
    /// Records that a browser got no stream, or lost it. `contact_id` is its contact, if that is known.
    pub(super) fn add(&mut self, key: BrowserKey, contact_id: Option<ContactId>, why: Why) {
        let browser = key.number();
        // After its session is gone, the contact is known from earlier entries.
        let known = self.0.iter().rev().find(|e| e.refused.browser == browser);
        let contact_id = contact_id.or(known.and_then(|entry| entry.contact_id));
        if contact_id.is_none() && why == Why::Refused(Refusal::UnknownSession) {
            return;
        }
        let same = |e: &Entry| e.refused.browser == browser && e.refused.why == why;
        let before = self
            .0
            .iter()
            .position(same)
            .and_then(|at| self.0.remove(at));
        let count = before.map_or(0, |entry| entry.refused.count);
        self.make_room(contact_id);
        self.0.push_back(Entry {
            contact_id,
            refused: Refused {
                browser,
                why,
                at_s: now_s(),
                count: count.saturating_add(1),
                over: false,
            },
        });
    }

    /// Records that a browser was accepted.
    pub(super) fn admit(&mut self, key: BrowserKey) {
        let refused = self.0.iter_mut().map(|entry| &mut entry.refused);
        for refused in refused.filter(|refused| refused.browser == key.number()) {
            refused.over = true;
        }
    }

    fn make_room(&mut self, contact_id: Option<ContactId>) {
        let limit = if contact_id.is_some() {
            OF_CONTACT
        } else {
            OF_NOBODY
        };
        let own = |entry: &Entry| entry.contact_id == contact_id;
        if self.0.iter().filter(|entry| own(entry)).count() >= limit
            && let Some(oldest) = self.0.iter().position(own)
        {
            self.0.remove(oldest);
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The entries of a contact's browsers and of `browsers`, oldest first.
    pub(super) fn of(&self, contact_id: ContactId, browsers: &[BrowserKey]) -> Vec<Refused> {
        let own = |entry: &&Entry| {
            let is_it = |key: &BrowserKey| key.number() == entry.refused.browser;
            entry.contact_id == Some(contact_id) || browsers.iter().any(is_it)
        };
        let own = self.0.iter().rev().filter(own).take(OF_CONTACT);
        let mut own: Vec<_> = own.map(|entry| entry.refused).collect();
        own.reverse();
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::explanation::Other;

    const USER_AGENT: Why = Why::Refused(Refusal::UserAgent);
    const UNKNOWN: Why = Why::Refused(Refusal::UnknownSession);
    const NO_CONTACT: Why = Why::Refused(Refusal::NoContact);
    const ENDED: Why = Why::Other(Other::Ended);
    const ALICE: Option<ContactId> = Some(ContactId(7));

    fn key(number: usize) -> BrowserKey {
        BrowserKey::new(&number.to_string())
    }

    fn of(refusals: &Refusals, contact_id: i64, browsers: &[BrowserKey]) -> Vec<Why> {
        let of = refusals.of(ContactId(contact_id), browsers);
        of.iter().map(|refused| refused.why).collect()
    }

    #[test]
    fn repeated_refusals_are_counted() {
        let mut refusals = Refusals::default();
        for _ in 0..3 {
            refusals.add(key(1), ALICE, USER_AGENT);
        }
        refusals.add(key(1), ALICE, Why::Refused(Refusal::Superseded));
        let counts = refusals.of(ContactId(7), &[]);
        assert_eq!(counts.iter().map(|r| r.count).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn refusals_before_a_browser_was_accepted_are_over() {
        let mut refusals = Refusals::default();
        let over = |refusals: &Refusals| -> Vec<bool> {
            let of = refusals.of(ContactId(7), &[]);
            of.iter().map(|refused| refused.over).collect()
        };
        refusals.add(key(1), ALICE, USER_AGENT);
        refusals.add(key(2), ALICE, USER_AGENT);
        refusals.admit(key(1));
        assert_eq!(over(&refusals), [true, false]);
        refusals.add(key(1), ALICE, USER_AGENT);
        assert_eq!(over(&refusals), [false, false]);
    }

    #[test]
    fn the_contact_of_an_unknown_session_is_known_from_earlier_entries() {
        let mut refusals = Refusals::default();
        refusals.add(key(1), None, UNKNOWN);
        assert!(refusals.0.is_empty());
        refusals.add(key(1), ALICE, ENDED);
        refusals.add(key(1), None, UNKNOWN);
        assert_eq!(of(&refusals, 7, &[]), [ENDED, UNKNOWN]);
    }

    #[test]
    fn refusals_without_a_contact_are_found_by_browser() {
        let mut refusals = Refusals::default();
        refusals.add(key(1), None, NO_CONTACT);
        assert_eq!(of(&refusals, 7, &[]), []);
        assert_eq!(of(&refusals, 7, &[key(1)]), [NO_CONTACT]);
    }

    #[test]
    fn one_contact_cannot_displace_the_entries_of_another() {
        let mut refusals = Refusals::default();
        refusals.add(key(0), ALICE, USER_AGENT);
        for number in 1..10_000 {
            refusals.add(key(number), Some(ContactId(8)), USER_AGENT);
            refusals.add(key(number + 10_000), None, NO_CONTACT);
            refusals.add(key(number + 20_000), None, UNKNOWN);
        }
        assert_eq!(of(&refusals, 7, &[]), [USER_AGENT]);
        assert_eq!(of(&refusals, 8, &[]).len(), OF_CONTACT);
        assert_eq!(refusals.0.len(), 1 + OF_CONTACT + OF_NOBODY);
        for (number, contact_id) in (30_000..).zip(10..10_000) {
            refusals.add(key(number), Some(ContactId(contact_id)), ENDED);
        }
        assert_eq!(refusals.0.len(), REMEMBERED);
    }
}
