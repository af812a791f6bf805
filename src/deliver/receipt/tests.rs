use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::ids::HistoryId;
use crate::model::returned::Mark;

const HOME: Option<ClientKey> = None;

fn elsewhere() -> Option<ClientKey> {
    Some(ClientKey::new(b"192.0.2.7"))
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A stream that ended `at` milliseconds after `begin`, with this `retry`.
fn ending(begin: Instant, at: u64, retry: u64) -> Ending {
    Ending {
        at: begin + ms(at),
        retry: ms(retry),
        client: HOME,
    }
}

fn returned(begin: Instant, at: u64) -> Returned {
    Returned {
        at: begin + ms(at),
        last_event_id: None,
        client: HOME,
        firefox: false,
    }
}

/// The habits of a browser whose returns were this late, in this order.
fn used_to(late: &[u64]) -> Habits {
    let mut habits = Habits::default();
    let begin = Instant::now();
    for late in late {
        habits.learn(&returned(begin, 200 + late), &[ending(begin, 0, 200)]);
    }
    habits
}

/// How late earlier returns were; when streams ended and with which retry; when the browser came; which stream it has read.
struct Case(&'static [u64], &'static [(u64, u64)], u64, Option<usize>);

#[test]
fn the_time_of_a_return_proves_what_was_read() {
    let begin = Instant::now();
    let cases = [
        Case(&[], &[(0, 200)], 200, Some(0)),
        Case(&[], &[(0, 200)], 185, Some(0)),
        Case(&[], &[(0, 200)], 184, None),
        Case(&[], &[(0, 200)], 600, Some(0)),
        Case(&[], &[(0, 200)], 601, None),
        Case(&[], &[], 200, None),
        // A slow line is learned; a return that is too early for it proves nothing.
        Case(&[500], &[(0, 200)], 800, Some(0)),
        Case(&[500], &[(0, 200)], 801, None),
        Case(&[500], &[(0, 200)], 220, Some(0)),
        Case(&[300, 300, 300, 310], &[(0, 200)], 600, Some(0)),
        Case(&[300, 300, 300, 310], &[(0, 200)], 601, None),
        Case(&[300, 300, 300, 310], &[(0, 200)], 410, Some(0)),
        Case(&[300, 300, 300, 310], &[(0, 200)], 409, None),
        // A machine that was busy, and is not any more.
        Case(&[28, 159, 83, 94, 49], &[(0, 200)], 208, Some(0)),
        // A single late return does not count if enough others are known.
        Case(&[10, 900, 12, 11], &[(0, 200)], 312, Some(0)),
        Case(&[10, 900, 12, 11], &[(0, 200)], 800, None),
        // The stream whose expected time is nearest.
        Case(&[10, 10, 10, 10], &[(0, 400), (150, 100)], 262, Some(1)),
        Case(&[10, 10, 10, 10], &[(0, 400), (150, 100)], 412, Some(0)),
        Case(&[10, 10, 10, 10], &[(0, 300), (20, 300)], 330, Some(1)),
        Case(&[10, 10, 10, 10], &[(0, 300), (20, 300)], 308, Some(0)),
    ];
    for Case(late, ended, at, expected) in cases {
        let ended: Vec<_> = (ended.iter())
            .map(|(at, retry)| ending(begin, *at, *retry))
            .collect();
        let receipt = used_to(late).judge(&returned(begin, at), &ended);
        let expected = expected.map_or(Receipt::None, Receipt::Punctual);
        assert_eq!(receipt, expected, "late {late:?}, {ended:?}, at {at}");
    }
}

#[test]
fn a_return_from_another_address_proves_nothing_by_time() {
    let begin = Instant::now();
    let ended = [ending(begin, 0, 200)];
    let moved = Returned {
        client: elsewhere(),
        ..returned(begin, 210)
    };
    assert_eq!(Habits::default().judge(&moved, &ended), Receipt::None);
    let named = LastEventId::Row(HistoryId(7));
    let moved = Returned {
        last_event_id: Some(named),
        ..moved
    };
    assert_eq!(
        Habits::default().judge(&moved, &ended),
        Receipt::Named(named)
    );
}

#[test]
fn a_browser_that_sends_ids_proves_nothing_by_time_until_it_stops() {
    let begin = Instant::now();
    let ended = [ending(begin, 0, 200)];
    let mut habits = Habits::default();
    let named = LastEventId::Mark(Mark(1));
    let naming = Returned {
        last_event_id: Some(named),
        ..returned(begin, 700)
    };
    assert_eq!(habits.judge(&naming, &ended), Receipt::Named(named));
    habits.learn(&naming, &ended);
    let punctual = returned(begin, 700);
    assert_eq!(habits.judge(&punctual, &ended), Receipt::None);
    // A reloaded page does not reconnect on time.
    habits.learn(&returned(begin, 1900), &ended);
    habits.learn(&punctual, &ended);
    assert_eq!(habits.judge(&punctual, &ended), Receipt::None);
    habits.learn(&punctual, &ended);
    assert_eq!(habits.judge(&punctual, &ended), Receipt::Punctual(0));
}

#[test]
fn slow_browsers_are_waited_for() {
    let begin = Instant::now();
    let ending = ending(begin, 0, 400);
    assert_eq!(used_to(&[10]).unread_at(&ending), begin + ms(1500));
    assert_eq!(used_to(&[1200, 10]).unread_at(&ending), begin + ms(2100));
}

proptest! {
    /// With any history: a receipt by time is within the range of usual returns, and from the same address.
    #[test]
    fn a_receipt_is_never_far_from_what_is_usual(
        late in vec(0..1400_u64, 0..9),
        ended in vec((0..3000_u64, 100..=400_u64, any::<bool>()), 0..5),
        at in 0..5000_u64,
        moved in any::<bool>(),
    ) {
        let begin = Instant::now();
        let habits = used_to(&late);
        let ended: Vec<_> = (ended.into_iter())
            .map(|(at, retry, moved)| Ending {
                client: if moved { elsewhere() } else { HOME },
                ..ending(begin, at, retry)
            })
            .collect();
        let client = if moved { elsewhere() } else { HOME };
        let returned = Returned { client, ..returned(begin, at) };
        if let Receipt::Punctual(index) = habits.judge(&returned, &ended) {
            let expected = ended[index].at + ended[index].retry;
            let recent = &late[late.len().saturating_sub(REMEMBERED)..];
            let few = recent.len() < 4;
            let soonest = if few { 0 } else { recent.iter().min().copied().unwrap_or(0) };
            let latest = recent.iter().max().copied().unwrap_or(0).max(if few { 300 } else { 0 });
            prop_assert!(returned.at + EARLY >= expected + ms(soonest).saturating_sub(SOONER));
            prop_assert!(returned.at <= expected + ms(latest) + LATER);
            prop_assert_eq!(returned.client, ended[index].client);
        }
    }

    /// The returns of a browser that is always about equally late are receipts from the second one on, no matter how late.
    #[test]
    fn a_browser_that_is_always_equally_late_is_punctual(
        late in 0..1400_u64,
        deviations in vec(0..30_u64, 2..=6),
        retry in 100..=400_u64,
    ) {
        let begin = Instant::now();
        let late: Vec<_> = deviations.iter().map(|deviation| late + deviation).collect();
        let (last, before) = late.split_last().unwrap();
        let ended = [ending(begin, 0, retry)];
        // A return much earlier than any before has another reason.
        prop_assume!(*last + 15 >= before.iter().copied().min().unwrap());
        let receipt = used_to(before).judge(&returned(begin, retry + last), &ended);
        prop_assert_eq!(receipt, Receipt::Punctual(0));
    }
}
