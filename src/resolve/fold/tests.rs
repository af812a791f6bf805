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
