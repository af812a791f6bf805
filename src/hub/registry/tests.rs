use super::*;
use crate::model::ids::{ContactId, IncidentId};
use crate::model::position::Position;

pub(in crate::hub) fn event(incident_id: i64) -> Arc<Event> {
    Arc::new(Event {
        history_ids: vec![],
        epoch: 0,
        incident_id: IncidentId(incident_id),
        sums_up: false,
        bytes: bytes::Bytes::new(),
        through: None,
        received_at: None,
    })
}

pub(in crate::hub) fn sign_in(contact_id: i64, session_id: &str) -> SignIn {
    SignIn {
        contact_id: ContactId(contact_id),
        browser: BrowserKey::new(session_id),
        agent: AgentKey::new("agent"),
        position: None,
        epoch: 0,
        signed_in_at_ms: 0,
        asked_at: Instant::now(),
    }
}

pub(in crate::hub) fn request() -> Returned {
    Returned {
        at: Instant::now(),
        last_event_id: None,
        client: None,
        firefox: false,
    }
}

#[test]
fn a_browser_has_two_places_and_gets_them_back() {
    let hub = Hub::new(100);
    let alice = sign_in(7, "a");
    let (first, mailbox) = hub.enter(&alice).unwrap();
    assert!(mailbox.is_some());
    let (_second, none) = hub.enter(&alice).unwrap();
    assert!(none.is_none());
    assert!(matches!(hub.enter(&alice), Err(Full::Browser)));
    let (_other, mailbox) = hub.enter(&sign_in(7, "b")).unwrap();
    assert!(mailbox.is_some());
    assert_eq!(hub.streams(), 3);
    drop(first);
    assert_eq!(hub.streams(), 2);
    assert!(hub.enter(&alice).is_ok());
}

#[test]
fn a_browser_known_to_be_signed_in_returns_without_a_query() {
    let hub = Hub::new(100);
    let alice = sign_in(7, "a");
    let come_back = |agent| hub.come_back(alice.browser, agent);
    assert!(come_back(alice.agent).is_none(), "never signed in");
    let _entered = hub.enter(&alice).unwrap();
    assert!(matches!(come_back(alice.agent), Some(Ok(_))));
    assert!(come_back(AgentKey::new("other")).is_none());
    for recheck in [
        Recheck::Browser(alice.browser),
        Recheck::Contact(ContactId(7)),
        Recheck::All,
    ] {
        hub.invalidate(recheck);
        assert!(come_back(alice.agent).is_none(), "{recheck:?}");
        // Queried before the invalidation, and answered after it.
        hub.mark_valid(ContactId(7), alice.browser, alice.asked_at);
        assert!(come_back(alice.agent).is_none(), "{recheck:?}");
        hub.mark_valid(ContactId(7), alice.browser, Instant::now());
        assert!(matches!(come_back(alice.agent), Some(Ok(_))), "{recheck:?}");
    }
    for other in [
        Recheck::Browser(BrowserKey::new("b")),
        Recheck::Contact(ContactId(8)),
    ] {
        hub.invalidate(other);
        assert!(matches!(come_back(alice.agent), Some(Ok(_))), "{other:?}");
    }
    hub.stop(|| Duration::ZERO);
    assert!(matches!(come_back(alice.agent), Some(Err(Full::Stopping))));
}

#[test]
fn requests_are_passed_to_a_connected_browser() {
    let hub = Hub::new(100);
    let alice = sign_in(7, "a");
    hub.returned(alice.browser, alice.agent, &request());
    let (_place, mailbox) = hub.enter(&alice).unwrap();
    hub.returned(alice.browser, AgentKey::new("other"), &request());
    let mut commands = mailbox.unwrap().commands;
    assert!(commands.try_recv().is_err());
    hub.returned(alice.browser, alice.agent, &request());
    assert!(matches!(commands.try_recv(), Ok(Command::Returned(_))));
}

#[test]
fn a_sign_in_checked_long_ago_does_not_count_as_valid() {
    let hub = Hub::new(100);
    let Some(asked_at) = Instant::now().checked_sub(VALID_FOR) else {
        return;
    };
    let alice = SignIn {
        asked_at,
        ..sign_in(7, "a")
    };
    let _entered = hub.enter(&alice).unwrap();
    let come_back = || hub.come_back(alice.browser, alice.agent);
    assert!(come_back().is_none());
    hub.mark_valid(ContactId(7), alice.browser, Instant::now());
    assert!(come_back().is_some());
}

#[test]
fn the_number_of_streams_is_limited() {
    let hub = Hub::new(2);
    let _a = hub.enter(&sign_in(7, "a")).unwrap();
    let b = hub.enter(&sign_in(8, "b")).unwrap();
    assert!(matches!(hub.enter(&sign_in(9, "c")), Err(Full::Daemon)));
    drop(b);
    assert!(hub.enter(&sign_in(9, "c")).is_ok());
}

#[test]
fn events_reach_every_browser_of_the_contact_and_no_other() {
    let hub = Hub::new(100);
    let enter = |contact, id| hub.enter(&sign_in(contact, id)).unwrap();
    let (_p1, a) = enter(7, "a");
    let (_p2, b) = enter(7, "b");
    let (_p3, c) = enter(8, "c");
    assert!(hub.publish(ContactId(7), vec![event(1), event(2)]));
    for mailbox in [a, b] {
        let Message::Events(events) = mailbox.unwrap().messages.try_recv().unwrap() else {
            panic!("no events");
        };
        let incidents: Vec<_> = events.iter().map(|e| e.incident_id.0).collect();
        assert_eq!(incidents, [1, 2]);
    }
    assert!(c.unwrap().messages.try_recv().is_err());
    assert!(!hub.publish(ContactId(9), vec![event(1)]));
}

#[test]
fn a_browser_without_places_is_forgotten_but_not_its_position() {
    let hub = Hub::new(100);
    let alice = sign_in(7, "a");
    let (place, mailbox) = hub.enter(&alice).unwrap();
    let mut mailbox = mailbox.unwrap();
    mailbox.memory.lock().position.extend([5].map(HistoryId));
    assert!(hub.has(ContactId(7)) && !hub.is_empty());
    assert!(!hub.forget_browser(&mailbox.memory));
    drop(place);
    assert!(hub.has(ContactId(7)) && hub.users() == 0);
    assert!(hub.forget_browser(&mailbox.memory));
    assert!(!hub.has(ContactId(7)) && hub.is_empty());
    assert!(
        mailbox
            .commands
            .try_recv()
            .is_err_and(|error| error.is_closed())
    );

    assert!(
        hub.remembers(ContactId(7), alice.browser) && !hub.remembers(ContactId(8), alice.browser)
    );
    let stored = Some(Position::new(HistoryId(0), [6].map(HistoryId)));
    let again = SignIn {
        position: stored,
        ..alice
    };
    let (_place, mailbox) = hub.enter(&again).unwrap();
    let position = mailbox.unwrap().memory.lock().position.clone();
    assert_eq!(position.above().collect::<Vec<_>>(), [5, 6].map(HistoryId));
}

#[test]
fn revoking_ends_the_browser_and_forgets_it() {
    let hub = Hub::new(100);
    let alice = sign_in(7, "a");
    let (_place, mailbox) = hub.enter(&alice).unwrap();
    assert_eq!(hub.browsers(ContactId(7)), [(alice.browser, alice.agent)]);
    hub.revoke(ContactId(7), alice.browser);
    let command = mailbox.unwrap().commands.try_recv();
    assert!(matches!(command, Ok(Command::Revoke { .. })));
    assert!(!hub.remembers(ContactId(7), alice.browser));
}

#[test]
fn a_browser_that_signs_in_again_after_revoking_is_remembered_again() {
    let hub = Hub::new(100);
    hub.change_epoch(&"1".into(), 0);
    let stored = || hub.unstored_positions().unwrap().1.len();
    let alice = sign_in(7, "a");
    let (_place, mailbox) = hub.enter(&alice).unwrap();
    let memory = mailbox.unwrap().memory;
    assert_eq!(stored(), 1);
    hub.revoke(ContactId(7), alice.browser);
    hub.delivered(&memory, &event(1), true);
    assert_eq!(stored(), 0);
    // Before its task has ended.
    let (_again, none) = hub.enter(&alice).unwrap();
    assert!(none.is_none() && hub.remembers(ContactId(7), alice.browser));
    assert_eq!(stored(), 1);
    hub.delivered(&memory, &event(2), true);
    assert_eq!(stored(), 1);
}

#[test]
fn a_session_that_changes_to_another_user_inherits_no_position() {
    let hub = Hub::new(100);
    let (alice, bob) = (sign_in(7, "a"), sign_in(8, "a"));
    let (_place, mailbox) = hub.enter(&alice).unwrap();
    let of_alice = mailbox.unwrap().memory;
    of_alice.lock().position.extend([5].map(HistoryId));
    let (_of_bob, mailbox) = hub.enter(&bob).unwrap();
    assert_eq!(mailbox.unwrap().memory.lock().position, Position::default());
    assert_eq!(hub.contacts_of(alice.browser).len(), 2);
    assert!(matches!(hub.come_back(bob.browser, bob.agent), Some(Ok(_))));
    // And back, before her task has ended.
    let (_again, none) = hub.enter(&alice).unwrap();
    assert!(none.is_none() && hub.remembers(ContactId(7), alice.browser));
    assert!(of_alice.lock().position.contains(HistoryId(5)));
}

#[test]
fn stopping_ends_browsers_and_refuses_new_ones() {
    let hub = Hub::new(100);
    let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
    hub.stop(|| Duration::from_secs(7));
    let command = mailbox.unwrap().commands.try_recv();
    assert!(matches!(command, Ok(Command::End { retry }) if retry.as_secs() == 7));
    assert!(matches!(hub.enter(&sign_in(7, "b")), Err(Full::Stopping)));
}

#[test]
fn positions_become_a_time_when_ids_restart() {
    let hub = Hub::new(100);
    assert!(!hub.change_epoch(&"1".into(), 0) && !hub.change_epoch(&"1".into(), 0));
    hub.settle(HistoryId(9), None);
    assert_eq!(hub.settled(), Some(HistoryId(9)));
    let (_place, mailbox) = hub.enter(&sign_in(7, "a")).unwrap();
    let mut mailbox = mailbox.unwrap();
    assert!(hub.change_epoch(&"2".into(), 1000));
    assert!(matches!(mailbox.messages.try_recv(), Ok(Message::Gap)));
    assert_eq!(
        mailbox.memory.lock().position,
        Position::delivered_until(1000)
    );
    assert_eq!((hub.settled(), hub.epoch()), (None, Some(("2".into(), 1))));
    // A sign-in that was queried before is outdated.
    assert!(matches!(
        hub.enter(&sign_in(7, "b")),
        Err(Full::EpochChanged)
    ));
}
