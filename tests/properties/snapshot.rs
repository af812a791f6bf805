//! Snapshots as PostgreSQL prints them.

use icinga_desktop_bridge::model::snapshot::Snapshot;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::values::transaction;

/// PostgreSQL's format: the oldest running transaction, the first that has not started, and the running ones.
fn print(first_future: u64, running: &[u64]) -> String {
    let oldest = running.first().unwrap_or(&first_future);
    let running: Vec<_> = running.iter().map(u64::to_string).collect();
    format!("{oldest}:{first_future}:{}", running.join(","))
}

proptest! {
    #[test]
    fn what_postgresql_prints_reads_back(
        first_future in transaction(), before in btree_set(1..1000_u64, 0..20), asked in 0..1100_u64
    ) {
        // Ascending, and no wrap-around: PostgreSQL's numbers have 64 bits here.
        let running: Vec<_> = before.iter().rev().filter_map(|age| first_future.checked_sub(*age)).collect();
        let snapshot = print(first_future, &running).parse::<Snapshot>();
        prop_assert_eq!(&snapshot, &Ok(Snapshot::new(first_future, running.iter().copied())));
        let Ok(snapshot) = snapshot else { return Ok(()) };
        prop_assert_eq!(snapshot.oldest_running(), running.first().copied().unwrap_or(first_future));
        prop_assert_eq!(&snapshot.running()[..], &running[..]);
        // A transaction has ended if it has started and does not run.
        let transaction = first_future.saturating_sub(1000).saturating_add(asked);
        let ended = transaction < first_future && !running.contains(&transaction);
        prop_assert_eq!(snapshot.has_ended(transaction), ended, "{}", transaction);
    }

    #[test]
    fn arbitrary_text_never_panics(
        text in any::<String>(),
        like in "[0-9]{0,21}(:[0-9]{0,21}){0,3}[,:x0-9+-]{0,12}",
    ) {
        for text in [text, like] {
            let _ = text.parse::<Snapshot>();
        }
    }

    #[test]
    fn what_is_no_number_is_refused(
        mut parts in vec("[0-9]{1,19}", 3), which in 1..3_usize, wrong in "[0-9]{0,3}([a-z -]|18446744073709551616)"
    ) {
        parts[which] = wrong;
        prop_assert!(parts.join(":").parse::<Snapshot>().is_err(), "{:?}", parts);
    }
}
