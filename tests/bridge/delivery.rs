//! End to end: rows in PostgreSQL reach their recipients' browsers, once, and no other browsers.

use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, Block, request};
use crate::common::world::World;

const PENDING: &str = "pending";

/// A new incident of critical severity.
fn crit<'a>(object: &'a str, notified: &'a [(i64, i64, &'a str)]) -> Event<'a> {
    Event {
        object,
        severity: Some("crit"),
        message: Some("CRITICAL"),
        notified,
        ..Event::default()
    }
}

#[tokio::test]
async fn a_new_incident_reaches_the_notified_contacts_and_nobody_else() {
    let world = World::new("new_incident").await;
    let (mut alice, mut bob, mut carol) = (
        world.user("alice").await,
        world.user("bob").await,
        world.user("carol").await,
    );
    let notified = [(alice.contact, 1, PENDING), (bob.contact, 1, PENDING)];
    let written = world.icinga.event(crit("db1!disk", &notified)).await;
    for (user, history) in [
        (&mut alice, written.history[0]),
        (&mut bob, written.history[1]),
    ] {
        let event = user.tab.event().await;
        assert_eq!(event.event.as_deref(), Some("icinga2.notification"));
        assert_eq!(event.id, Some(history.to_string()));
        assert_eq!(event.retry, Some(3000));
        let json = event.json();
        assert_eq!(json["payload"]["incident_id"], written.incident);
        assert_eq!(json["payload"]["severity"], "crit");
        assert_eq!(json["payload"]["title"], "db1!disk");
        assert_eq!(json["payload"]["message"], "CRITICAL");
        let time = json["time"].as_str().unwrap();
        assert!(time.ends_with("+00:00") && time.len() == 29, "{time}");
    }
    world
        .nothing_else(&mut [&mut alice, &mut bob, &mut carol])
        .await;
}

#[tokio::test]
async fn two_channels_of_a_contact_are_one_event_and_answers_of_channels_none() {
    let world = World::new("two_channels").await;
    let mut alice = world.user("alice").await;
    let notified = [(alice.contact, 1, PENDING), (alice.contact, 2, PENDING)];
    let written = world.icinga.event(crit("o", &notified)).await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    world.icinga.answered(written.history[1], "sent").await;
    world.icinga.answered(written.history[0], "failed").await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn two_transactions_are_two_events() {
    let world = World::new("two_transactions").await;
    let mut alice = world.user("alice").await;
    let notified = [(alice.contact, 1, PENDING)];
    let written = world.icinga.event(crit("o", &notified)).await;
    let change = Event {
        incident: Some(written.incident),
        severity: Some("warning"),
        notified: &notified,
        ..Event::default()
    };
    world.icinga.event(change).await;
    for severity in ["crit", "warning"] {
        assert_eq!(
            alice.tab.event().await.json()["payload"]["severity"],
            severity
        );
    }
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn suppressed_rows_announce_nothing_and_keep_the_incident_from_it() {
    let world = World::new("suppressed").await;
    let mut alice = world.user("alice").await;
    let notified = [(alice.contact, 1, "suppressed")];
    let written = world.icinga.event(crit("o", &notified)).await;
    let change = Event {
        incident: Some(written.incident),
        severity: Some("ok"),
        notified: &notified,
        ..Event::default()
    };
    world.icinga.event(change).await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_later_escalation_reaches_the_contact_it_adds() {
    let world = World::new("escalation").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let written = world
        .icinga
        .event(crit("o", &[(alice.contact, 1, PENDING)]))
        .await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    let escalation = Event {
        incident: Some(written.incident),
        message: Some("still CRITICAL"),
        notified: &[(bob.contact, 1, PENDING)],
        ..Event::default()
    };
    world.icinga.event(escalation).await;
    let event = bob.tab.event().await.json();
    assert_eq!(event["payload"]["severity"], "crit");
    assert_eq!(event["payload"]["message"], "still CRITICAL");
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_severity_changed_by_hand_reaches_contacts_and_group_members_once_each() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "by_hand", shape).await;
        let (mut direct, mut member, mut both, mut deleted, mut other) = (
            world.user("direct").await,
            world.user("member").await,
            world.user("both").await,
            world.user("deleted").await,
            world.user("other").await,
        );
        let icinga = &world.icinga;
        let incident = icinga.incident("o", "ok").await;
        // Opened without recipients and shown to nobody: contacts are added later.
        world.nothing_else(&mut [&mut direct]).await;
        icinga
            .incident_contact(incident, direct.contact, "recipient")
            .await;
        icinga
            .incident_contact(incident, both.contact, "recipient")
            .await;
        icinga.incident_group(incident, 5, "recipient").await;
        for contact in [member.contact, both.contact, deleted.contact] {
            icinga.group_member(5, contact).await;
        }
        let leave = format!(
            "UPDATE contactgroup_member SET deleted = 'y' WHERE contact_id = {}",
            deleted.contact
        );
        icinga.by_hand(&leave).await;
        icinga
            .by_hand(&format!(
                "UPDATE incident SET severity = 'err' WHERE id = {incident}"
            ))
            .await;
        for user in [&mut direct, &mut member, &mut both] {
            let event = user.tab.event().await;
            assert_eq!(event.incident(), incident);
            assert_eq!(event.json()["payload"]["severity"], "err");
            assert_eq!(event.json()["payload"]["title"], "o");
            assert_eq!(event.json()["payload"]["message"], "");
            assert_eq!(event.id, None, "it has no history row to stand for");
        }
        world
            .nothing_else(&mut [
                &mut direct,
                &mut member,
                &mut both,
                &mut deleted,
                &mut other,
            ])
            .await;
    }
}

#[tokio::test]
async fn once_an_incident_has_a_manager_only_managers_and_subscribers_are_notified() {
    let world = World::new("manager").await;
    let (mut recipient, mut manager, mut subscriber) = (
        world.user("recipient").await,
        world.user("manager").await,
        world.user("subscriber").await,
    );
    let icinga = &world.icinga;
    let incident = icinga.incident("o", "ok").await;
    world.nothing_else(&mut [&mut recipient]).await;
    for user in [&recipient, &manager, &subscriber] {
        icinga
            .incident_contact(incident, user.contact, "recipient")
            .await;
    }
    icinga
        .incident_contact(incident, manager.contact, "manager")
        .await;
    icinga
        .incident_contact(incident, subscriber.contact, "subscriber")
        .await;
    icinga
        .by_hand(&format!(
            "UPDATE incident SET severity = 'alert' WHERE id = {incident}"
        ))
        .await;
    for user in [&mut manager, &mut subscriber] {
        assert_eq!(user.tab.event().await.incident(), incident);
    }
    world
        .nothing_else(&mut [&mut recipient, &mut manager, &mut subscriber])
        .await;
}

#[tokio::test]
async fn a_muted_incident_changed_by_hand_reaches_nobody_until_it_is_unmuted() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "muted", shape).await;
        let mut alice = world.user("alice").await;
        let icinga = &world.icinga;
        let incident = icinga.incident("o", "ok").await;
        world.nothing_else(&mut [&mut alice]).await;
        icinga
            .incident_contact(incident, alice.contact, "recipient")
            .await;
        icinga.mute(incident, Some("in downtime")).await;
        icinga
            .by_hand(&format!(
                "UPDATE incident SET severity = 'crit' WHERE id = {incident}"
            ))
            .await;
        world.nothing_else(&mut [&mut alice]).await;
        icinga.mute(incident, None).await;
        icinga
            .by_hand(&format!(
                "UPDATE incident SET severity = 'ok' WHERE id = {incident}"
            ))
            .await;
        assert_eq!(alice.tab.event().await.incident(), incident);
    }
}

#[tokio::test]
async fn what_does_not_change_or_is_rolled_back_is_not_sent() {
    let world = World::new("rollback").await;
    let mut alice = world.user("alice").await;
    let icinga = &world.icinga;
    let incident = icinga.incident("o", "crit").await;
    world.nothing_else(&mut [&mut alice]).await;
    icinga
        .incident_contact(incident, alice.contact, "recipient")
        .await;
    icinga
        .by_hand(&format!(
            "UPDATE incident SET severity = 'crit' WHERE id = {incident}"
        ))
        .await;
    icinga.by_hand("BEGIN").await;
    let notified = [(alice.contact, 1, PENDING)];
    let escalation = Event {
        incident: Some(incident),
        severity: Some("emerg"),
        notified: &notified,
        ..Event::default()
    };
    icinga.write(escalation).await;
    icinga.by_hand("ROLLBACK").await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn savepoints_around_the_writes_change_nothing() {
    let world = World::new("savepoints").await;
    let mut alice = world.user("alice").await;
    let icinga = &world.icinga;
    let incident = icinga.incident("o", "ok").await;
    world.nothing_else(&mut [&mut alice]).await;
    icinga
        .incident_contact(incident, alice.contact, "recipient")
        .await;
    icinga.by_hand(
        &format!(
            "BEGIN; SAVEPOINT a;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, time, type, notification_state)
               VALUES ({incident}, {alice}, 1, 0, 'notified', 'pending');
             RELEASE a; SAVEPOINT b;
             UPDATE incident SET severity = 'crit' WHERE id = {incident};
             RELEASE b; SAVEPOINT c;
             UPDATE incident SET severity = 'emerg' WHERE id = {incident};
             ROLLBACK TO c; COMMIT",
            alice = alice.contact
        ),
    )
    .await;
    let event = alice.tab.event().await;
    assert_eq!(event.incident(), incident);
    assert_eq!(event.json()["payload"]["severity"], "crit");
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn of_several_severities_in_one_transaction_the_last_is_sent() {
    let world = World::new("several").await;
    let mut alice = world.user("alice").await;
    let icinga = &world.icinga;
    let incident = icinga.incident("o", "ok").await;
    world.nothing_else(&mut [&mut alice]).await;
    icinga
        .incident_contact(incident, alice.contact, "recipient")
        .await;
    let set =
        |severity| format!("UPDATE incident SET severity = '{severity}' WHERE id = {incident}");
    icinga
        .by_hand(&format!(
            "BEGIN; {}; {}; {}; COMMIT",
            set("crit"),
            set("warning"),
            set("crit")
        ))
        .await;
    let event = alice.tab.event().await;
    assert_eq!(event.json()["payload"]["severity"], "crit");
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn three_hundred_incidents_in_one_transaction_come_once_each_and_in_order() {
    let world = World::new("three_hundred").await;
    let mut alice = world.user("alice").await;
    world.icinga.by_hand("BEGIN").await;
    let notified = [(alice.contact, 1, PENDING)];
    let mut incidents = Vec::new();
    for number in 0..300 {
        let object = format!("host{number}");
        incidents.push(world.icinga.write(crit(&object, &notified)).await.incident);
    }
    world.icinga.by_hand("COMMIT").await;
    for incident in incidents {
        assert_eq!(alice.tab.event().await.incident(), incident);
    }
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn contacts_without_a_user_are_skipped() {
    let world = World::new("no_user").await;
    let (mut alice, mut gone) = (world.user("alice").await, world.user("gone").await);
    let icinga = &world.icinga;
    let nameless = icinga.contact("nameless").await;
    icinga
        .by_hand(&format!(
            "UPDATE contact SET username = NULL WHERE id = {nameless}"
        ))
        .await;
    icinga.delete_contact(gone.contact).await;
    let notified = [
        (nameless, 1, PENDING),
        (gone.contact, 1, PENDING),
        (alice.contact, 1, PENDING),
    ];
    let written = icinga.event(crit("o", &notified)).await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    // A browser that has to be checked again is refused, and received nothing before that.
    assert_eq!(
        Answer::subscribe(&world.daemon.address, &gone.session_id)
            .await
            .status,
        204
    );
    world.daemon.signal("TERM");
    assert!(!gone.tab.end().await.iter().any(Block::is_event));
}

#[tokio::test]
async fn user_names_match_in_any_case() {
    let world = World::new("citext").await;
    let contact = world.icinga.contact("Alice").await;
    let mut alice = world.sign_in(contact, "aLICE").await;
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn texts_arrive_as_they_are_and_cannot_break_the_framing() {
    let world = World::new("texts").await;
    let mut alice = world.user("alice").await;
    let notified = [(alice.contact, 1, PENDING)];
    for text in [
        "quotes \" and ' and \\ and </script>",
        "line\nline\r\nline\rline",
        "\r\nevent: x\r\ndata: y\r\n\r\n",
        "NUL-like \\0 \\u0000 %00",
        "emoji 🔥 and ünïcode and \u{202e}right to left",
        "\u{2028}\u{2029}\u{85}\u{feff}",
        "\t\u{1}\u{1f}\u{7f}",
        "",
    ] {
        let event = Event {
            message: Some(text),
            ..crit(text, &notified)
        };
        world.icinga.event(event).await;
        let event = alice.tab.event().await;
        assert_eq!(event.json()["payload"]["title"], text);
        assert_eq!(event.json()["payload"]["message"], text);
        assert_eq!(event.raw.matches('\n').count(), 5, "{event:?}");
        assert!(!event.raw.contains('\r'), "{event:?}");
    }
    let nothing = Event {
        message: None,
        ..crit("o", &notified)
    };
    world.icinga.event(nothing).await;
    let event = alice.tab.event().await.json();
    // The client shows the word null.
    assert_eq!(event["payload"]["message"], "");

    let huge = "ü".repeat(256 * 1024);
    let event = Event {
        message: Some(&huge),
        ..crit("huge", &notified)
    };
    world.icinga.event(event).await;
    let event = alice.tab.event().await.json();
    let message = event["payload"]["message"].as_str().unwrap();
    assert!(
        message.len() <= 4096 && message.len() > 4088,
        "{}",
        message.len()
    );
    assert!(huge.starts_with(message.strip_suffix('…').unwrap()));
}

#[tokio::test]
async fn a_failing_trigger_function_neither_fails_the_writer_nor_costs_the_event() {
    let world = World::new("revoked").await;
    let mut alice = world.user("alice").await;
    // From now on only a bell, the interval, or transactions that ran at a bell make the daemon look.
    world.nothing_else(&mut [&mut alice]).await;
    let database = &world.database;
    let writer = database.role("writer");
    database
        .psql()
        .command(&format!(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO \"{writer}\";
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO \"{writer}\";
             REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC"
        ))
        .success();
    let mut icinga = Icinga::new(database.connect_as(&writer).await, Shape::V1_0);
    let written = icinga
        .event(crit("o", &[(alice.contact, 1, PENDING)]))
        .await;
    let warnings = icinga.session().warnings().join("\n");
    assert!(warnings.contains("pg_notify"), "{warnings}");
    let committed = format!(
        "SELECT severity::text FROM incident WHERE id = {}",
        written.incident
    );
    assert_eq!(icinga.session().text(&committed).await, "crit");
    // A look on the interval finds it.
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    world.daemon.wait_for_log("no bell had rung");
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    icinga
        .by_hand("GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO PUBLIC")
        .await;
    let written = icinga
        .event(crit("p", &[(alice.contact, 1, PENDING)]))
        .await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn of_two_streams_of_a_browser_one_gets_an_event_and_the_other_takes_over() {
    let world = World::new("two_streams").await;
    let mut alice = world.user("alice").await;
    let mut second = world.open(&alice.session_id).await;
    let notified = [(alice.contact, 1, PENDING)];
    let written = world.icinga.event(crit("o", &notified)).await;
    // The second tab's, or the first one's if that has reconnected since the second was opened.
    let (event, by_first) = tokio::select! {
        event = alice.tab.event() => (event, true),
        event = second.event() => (event, false),
    };
    assert_eq!(event.incident(), written.incident);
    world.delivered(written.history[0]).await;
    if by_first {
        std::mem::swap(&mut alice.tab, &mut second);
    }
    drop(second);
    world.daemon.wait_for_log("client left");
    let written = world.icinga.event(crit("o", &notified)).await;
    // Its first event: it received none while the other stream was open.
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn each_browser_of_a_contact_gets_an_event() {
    let world = World::new("two_browsers").await;
    let mut alice = world.user("alice").await;
    let other = world.icinga.sign_in("alice", "Another/1.0").await;
    let site = Site::daemon(&world.daemon.address, "Another/1.0");
    let mut tab = EventSource::open(&site, &other).await;
    world.nothing_else(&mut [&mut alice]).await;
    tab.event().await;
}

#[tokio::test]
async fn events_arrive_on_all_released_schemas() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "schemas", shape).await;
        let mut alice = world.user("alice").await;
        world.nothing_else(&mut [&mut alice]).await;
    }
}

#[tokio::test]
async fn the_database_coming_back_is_noticed() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "restarted", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    cluster.restart();
    world.daemon.wait_for_nth_log("and the other channels", 2);
    world.daemon.wait_for_nth_log("query session connected", 2);
    let icinga = Icinga::new(world.database.connect().await, Shape::V1_0);
    let notified = [(alice.contact, 1, PENDING)];
    let written = icinga.event(crit("o", &notified)).await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
}

#[tokio::test]
async fn a_session_of_another_browser_or_a_superseded_one_is_not_let_in() {
    let world = World::new("not_let_in").await;
    world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let address = &world.daemon.address;
    for id in [
        "",
        "short",
        "unknownunknownunknownunknown",
        &"x".repeat(256),
        &"y".repeat(300),
    ] {
        assert_eq!(Answer::subscribe(address, id).await.status, 204, "{id}");
    }
    let other_agent = request(&session_id, "Another/1.0");
    assert_eq!(
        Answer::to(address, other_agent.as_bytes()).await.status,
        204
    );
    // A row that Icinga Web did not delete at a newer sign-in.
    world.icinga.by_hand(
        &format!(
            "INSERT INTO browser_session SELECT 'newernewernewernewernewer', username, user_agent, authenticated_at + 1 \
             FROM browser_session WHERE php_session_id = '{}'",
            session_id
        ),
    )
    .await;
    assert_eq!(Answer::subscribe(address, &session_id).await.status, 204);
    assert_eq!(
        Answer::subscribe(address, "newernewernewernewernewer")
            .await
            .status,
        200
    );
    // Signed in, but no contact of Icinga Notifications.
    let stranger = world.icinga.sign_in("stranger", AGENT).await;
    assert_eq!(Answer::subscribe(address, &stranger).await.status, 204);
    let log = world.daemon.log();
    assert!(
        !log.contains(&session_id) && !log.contains(&stranger),
        "{log}"
    );
}
