//! Metrics change with what happens.

use crate::common::admin::{metrics, monitored, wait_for_metrics, wait_for_readiness};
use crate::common::icinga::Event;
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, OTHER_AGENT};
use crate::common::wait::{TIMEOUT, eventually};

#[tokio::test]
async fn a_new_daemon_states_its_version_and_has_counted_nothing() {
    let (_world, admin) = monitored(Cluster::shared(), "new").await;
    let version = env!("CARGO_PKG_VERSION");
    wait_for_metrics(
        &admin,
        &[
            (&format!("build_info{{version=\"{version}\"}}"), 1.0),
            ("streams", 0.0),
            ("users", 0.0),
            ("events_total{outcome=\"published\"}", 0.0),
            ("event_latency_seconds_count", 0.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_counts_once_for_each_contact_and_so_does_its_latency() {
    let (world, admin) = monitored(Cluster::shared(), "counted").await;
    let alice = world.user("alice").await;
    let mut second = world.open(&alice.session_id).await;
    let mut bob = world.user("bob").await;
    let contacts = [
        (alice.contact, 1, "pending"),
        (alice.contact, 2, "pending"),
        (bob.contact, 1, "pending"),
    ];
    world
        .icinga
        .event(Event {
            object: "db1!disk",
            severity: Some("crit"),
            notified: &contacts,
            ..Event::default()
        })
        .await;
    second.event().await;
    bob.tab.event().await;
    // One event for each contact, on one stream of each browser, and delivered when the browser has returned.
    wait_for_metrics(
        &admin,
        &[
            ("streams", 3.0),
            ("users", 2.0),
            ("events_total{outcome=\"published\"}", 2.0),
            ("events_total{outcome=\"written\"}", 2.0),
            ("events_total{outcome=\"delivered\"}", 2.0),
            ("events_total{outcome=\"returned\"}", 0.0),
            ("event_latency_seconds_count", 2.0),
        ],
    )
    .await;
    let seen = metrics(&admin).await;
    let sum = seen["icinga_desktop_event_latency_seconds_sum"];
    assert!(sum > 0.0 && sum < TIMEOUT.as_secs_f64(), "{sum}");
    assert_eq!(
        seen["icinga_desktop_event_latency_seconds_bucket{le=\"+Inf\"}"],
        2.0
    );
    assert!(seen["icinga_desktop_streams_limit"] >= 3.0);
    // The bell, and the pulse before it.
    assert!(seen["icinga_desktop_notifications_total"] >= 2.0);
    // The first bell may have been received together with the gap that every daemon starts with.
    world.incident(bob.contact, "db1!load").await;
    bob.tab.event().await;
    eventually(
        async || match metrics(&admin).await["icinga_desktop_looks_total{cause=\"bell\"}"] {
            0.0 => Err("no look by a bell"),
            _ => Ok(()),
        },
    )
    .await;
}

#[tokio::test]
async fn the_latency_of_an_event_counts_although_no_bell_was_heard() {
    let (world, admin) = monitored(Cluster::shared(), "unheard").await;
    let mut alice = world.user("alice").await;
    world
        .icinga
        .by_hand(
            "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_bell;
             ALTER TABLE incident DISABLE TRIGGER icinga_desktop_incident",
        )
        .await;
    world.incident(alice.contact, "db1!disk").await;
    alice.tab.event().await;
    wait_for_metrics(&admin, &[("event_latency_seconds_count", 1.0)]).await;
}

#[tokio::test]
async fn an_event_that_another_stream_takes_over_is_returned_and_written_again_but_measured_once() {
    let (world, admin) = monitored(Cluster::shared(), "returned").await;
    let contact = world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let mut dead = world.stream(&session_id).await;
    world.incident(contact, "db1!load").await;
    dead.event().await;
    // Its tab does not return, but another one does.
    let mut tab = world.open(&session_id).await;
    tab.event().await;
    wait_for_metrics(
        &admin,
        &[
            ("events_total{outcome=\"published\"}", 1.0),
            ("events_total{outcome=\"written\"}", 2.0),
            ("events_total{outcome=\"returned\"}", 1.0),
            ("events_total{outcome=\"delivered\"}", 1.0),
            ("event_latency_seconds_count", 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn requests_that_are_not_let_in_are_counted_by_their_reason() {
    let (world, admin) = monitored(Cluster::shared(), "refused").await;
    let bob = world.user("bob").await;
    let stranger = world.icinga.sign_in("stranger", AGENT).await;
    let session = |id: &str| format!("Icingaweb2={id}");
    let requests = [
        ("malformed", session("short"), AGENT),
        ("unknown_session", session(&"x".repeat(26)), AGENT),
        ("user_agent", session(&bob.session_id), OTHER_AGENT),
        ("no_cookie", "theme=dark".to_owned(), AGENT),
        ("no_contact", session(&stranger), AGENT),
    ];
    for (reason, cookie, agent) in &requests {
        let request = format!(
            "GET /notifications/v1/subscribe HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nCookie: {cookie}\r\n\r\n"
        );
        let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
        assert_eq!(answer.status, 204, "{reason}");
    }
    let names = requests.map(|(reason, ..)| format!("refused_total{{reason=\"{reason}\"}}"));
    let once = names.each_ref().map(|name| (name.as_str(), 1.0));
    wait_for_metrics(&admin, &once).await;
}

#[tokio::test]
async fn a_notification_that_no_trigger_sent_counts_as_malformed() {
    let (world, admin) = monitored(Cluster::shared(), "malformed").await;
    let nonsense = "NOTIFY icinga_desktop_incident, 'nonsense'";
    world.icinga.by_hand(nonsense).await;
    wait_for_metrics(&admin, &[("notifications_malformed_total", 1.0)]).await;
}

#[tokio::test]
async fn a_sign_out_counts_as_revoked_once_and_ends_all_streams_of_its_browser() {
    let (world, admin) = monitored(Cluster::shared(), "revoked").await;
    let _alice = world.user("alice").await;
    let bob = world.user("bob").await;
    let _second = world.open(&bob.session_id).await;
    wait_for_metrics(&admin, &[("users", 2.0), ("streams", 3.0)]).await;
    world.icinga.sign_out(&bob.session_id).await;
    wait_for_metrics(
        &admin,
        &[("revoked_total", 1.0), ("users", 1.0), ("streams", 1.0)],
    )
    .await;
}

#[tokio::test]
async fn a_database_session_that_was_ended_is_connected_anew_and_counted() {
    let (world, admin) = monitored(Cluster::shared(), "ended").await;
    let terminate = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'icinga-desktop-bridge query'";
    assert_eq!(world.database.connect().await.text(terminate).await, "1");
    wait_for_metrics(
        &admin,
        &[
            ("database_reconnects_total{session=\"query\"}", 1.0),
            ("database_reconnects_total{session=\"listener\"}", 0.0),
            ("database_up{session=\"query\"}", 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn browsers_that_are_asked_to_come_back_are_counted() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "postponed").await;
    world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let answer = Answer::subscribe(&world.daemon.address, &session_id).await;
    assert_eq!(answer.status, 200);
    wait_for_metrics(&admin, &[("postponed_total{reason=\"database\"}", 1.0)]).await;
}
