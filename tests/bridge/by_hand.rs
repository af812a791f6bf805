//! Incidents that are changed without Icinga Notifications are shown to their contacts. Where Icinga wrote history, it has
//! decided itself whom to notify, even if that is nobody.

use crate::common::icinga::{Event, Shape};
use crate::common::postgres::Cluster;
use crate::common::world::{User, World};

impl World {
    /// An incident whose recipients are a user, and another user as a member of a group.
    async fn incident_of(&self, direct: &User, member: &User) -> i64 {
        let incident = self.icinga.incident("of both", "ok").await;
        self.icinga
            .incident_contact(incident, direct.contact, "recipient")
            .await;
        self.icinga.incident_group(incident, 5, "recipient").await;
        self.icinga.group_member(5, member.contact).await;
        incident
    }
}

/// Asserts that no event has arrived. Twice, because a look publishes rows of the history before incidents.
async fn nothing(world: &World, users: &mut [&mut User]) {
    for _ in 0..2 {
        world.nothing_else(users).await;
    }
}

#[tokio::test]
async fn a_change_of_which_icinga_notifies_nobody_is_shown_to_nobody_and_one_by_hand_is() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "decided", shape).await;
        let (mut direct, mut member) = (world.user("direct").await, world.user("member").await);
        let incident = world.incident_of(&direct, &member).await;
        let change = Event {
            incident: Some(incident),
            severity: Some("crit"),
            ..Event::default()
        };
        world.icinga.event(change).await;
        nothing(&world, &mut [&mut direct, &mut member]).await;

        let update =
            |severity| format!("UPDATE incident SET severity = '{severity}' WHERE id = {incident}");
        let history = |kind| {
            format!(
                "INSERT INTO incident_history (incident_id, time, type) VALUES ({incident}, 0, '{kind}')"
            )
        };
        for statements in [
            [update("err"), history("incident_severity_changed")],
            [history("incident_severity_changed"), update("warning")],
            [update("alert"), history("rule_matched")],
            [history("rule_matched"), update("emerg")],
        ] {
            world
                .icinga
                .by_hand(&format!("BEGIN; {}; COMMIT", statements.join(";")))
                .await;
            nothing(&world, &mut [&mut direct, &mut member]).await;
        }

        // With the latest message, where the schema has one.
        let (said, message) = if shape == Shape::V1_0 {
            (", message = 'DISK OK'", "DISK OK")
        } else {
            ("", "")
        };
        world
            .icinga
            .by_hand(&format!(
                "UPDATE incident SET severity = 'notice'{said} WHERE id = {incident}"
            ))
            .await;
        for user in [&mut direct, &mut member] {
            let event = user.tab.event().await;
            assert_eq!(event.incident(), incident);
            assert_eq!(event.json()["payload"]["severity"], "notice");
            assert_eq!(event.json()["payload"]["message"], message);
        }
        nothing(&world, &mut [&mut direct, &mut member]).await;
    }
}

#[tokio::test]
async fn an_incident_that_is_inserted_without_history_reaches_its_recipients_once() {
    for shape in Shape::ALL {
        let world = World::on(Cluster::shared(), "inserted", shape).await;
        let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
        let contact = alice.contact;
        let insert = |more: &str| {
            format!(
                "BEGIN;
                 INSERT INTO object (id, source_id, name) VALUES (sha256('imported'), 1, 'imported')
                   ON CONFLICT DO NOTHING;
                 INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('imported'), 0, 'crit');
                 INSERT INTO incident_contact (incident_id, contact_id, role)
                   SELECT max(id), {contact}, 'recipient' FROM incident;
                 {more};
                 COMMIT"
            )
        };
        world.icinga.by_hand(&insert("")).await;
        let event = alice.tab.event().await;
        let json = event.json();
        assert_eq!(json["payload"]["severity"], "crit");
        assert_eq!(json["payload"]["title"], "imported");
        // It is not announced a second time, neither by its id nor by a look on the interval.
        nothing(&world, &mut [&mut alice, &mut bob]).await;

        // Icinga opens one and notifies nobody.
        let opened = "INSERT INTO incident_history (incident_id, time, type) SELECT max(id), 0, 'opened' FROM incident";
        world.icinga.by_hand(&insert(opened)).await;
        nothing(&world, &mut [&mut alice, &mut bob]).await;
    }
}

#[tokio::test]
async fn an_incident_that_is_inserted_and_changed_by_hand_at_once_comes_once() {
    let world = World::new("at_once").await;
    let mut alice = world.user("alice").await;
    world
        .icinga
        .by_hand(&format!(
            "BEGIN;
             INSERT INTO object (id, source_id, name) VALUES (sha256('imported'), 1, 'imported');
             INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('imported'), 0, 'ok');
             INSERT INTO incident_contact (incident_id, contact_id, role) SELECT id, {}, 'recipient' FROM incident;
             UPDATE incident SET severity = 'warning';
             COMMIT",
            alice.contact
        ))
        .await;
    let event = alice.tab.event().await;
    assert_eq!(event.json()["payload"]["severity"], "warning");
    nothing(&world, &mut [&mut alice]).await;
}

/// The sequence of incidents restarts alone: the next one has an id that another had.
#[tokio::test]
async fn incidents_whose_ids_have_started_again_are_shown() {
    let world = World::new("incident_ids").await;
    let mut alice = world.user("alice").await;
    let insert = format!(
        "BEGIN;
         INSERT INTO object (id, source_id, name) VALUES (sha256('imported'), 1, 'imported') ON CONFLICT DO NOTHING;
         INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('imported'), 0, 'crit');
         INSERT INTO incident_contact (incident_id, contact_id, role) SELECT max(id), {}, 'recipient' FROM incident;
         COMMIT",
        alice.contact
    );
    for id in [1, 2, 3] {
        world.icinga.by_hand(&insert).await;
        assert_eq!(alice.tab.event().await.incident(), id);
    }
    let again = "DELETE FROM incident_contact; DELETE FROM incident; ALTER SEQUENCE incident_id_seq RESTART";
    world.icinga.by_hand(again).await;
    world.daemon.wait_for_log("its ids have restarted");
    for id in [1, 2] {
        world.icinga.by_hand(&insert).await;
        assert_eq!(alice.tab.event().await.incident(), id);
    }
    world.nothing_else(&mut [&mut alice]).await;
}
