//! Metrics move with what happens.

use crate::common::admin::{metrics, monitored, wait_for_metrics, wait_for_readiness};
use crate::common::icinga::Event;
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, PATIENCE};

/// A browser of another make: a second one of the same user.
const OTHER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0) Test/2.0";

#[tokio::test]
async fn metrics_move_with_what_happens() {
    let (world, admin) = monitored(Cluster::shared(), "moving").await;
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
    let mut alice = world.user("alice").await;
    let second = world.subscribe(&alice.session_id).await;
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
    alice.stream.event().await;
    bob.stream.event().await;
    // One event for each contact, on one stream of each browser, and delivered a quarter of a second later.
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
    assert!(sum > 0.0 && sum < PATIENCE.as_secs_f64(), "{sum}");
    assert_eq!(
        seen["icinga_desktop_event_latency_seconds_bucket{le=\"+Inf\"}"],
        2.0
    );
    assert!(seen["icinga_desktop_streams_limit"] >= 3.0);
    assert!(seen["icinga_desktop_notifications_total"] >= 3.0);

    // Another browser leaves with the event unconfirmed; the other stream gets it.
    drop(second);
    wait_for_metrics(&admin, &[("streams", 2.0)]).await;
    let spare = world.subscribe(&alice.session_id).await;
    world
        .icinga
        .event(Event {
            object: "db1!load",
            severity: Some("warning"),
            notified: &[(alice.contact, 1, "pending")],
            ..Event::default()
        })
        .await;
    alice.stream.event().await;
    drop(alice.stream);
    let mut spare = spare;
    spare.event().await;
    wait_for_metrics(
        &admin,
        &[
            ("events_total{outcome=\"written\"}", 4.0),
            ("events_total{outcome=\"returned\"}", 1.0),
            ("events_total{outcome=\"delivered\"}", 3.0),
            // What comes again is not measured again.
            ("event_latency_seconds_count", 3.0),
        ],
    )
    .await;

    // Refused, each for its reason.
    let unknown = "x".repeat(26);
    for (cookie, agent) in [
        ("Icingaweb2=short".to_owned(), AGENT),
        (format!("Icingaweb2={unknown}"), AGENT),
        (format!("Icingaweb2={}", bob.session_id), OTHER_AGENT),
        ("theme=dark".to_owned(), AGENT),
    ] {
        let request = format!(
            "GET /notifications/v1/subscribe HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nCookie: {cookie}\r\n\r\n"
        );
        let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
        assert_eq!(answer.status, 204);
    }
    let _bobs_second = world.subscribe(&bob.session_id).await;
    let third = Answer::subscribe(&world.daemon.address, &bob.session_id).await;
    assert_eq!(third.status, 204);
    let stranger = world.icinga.sign_in("stranger", AGENT).await;
    let answer = Answer::subscribe(&world.daemon.address, &stranger).await;
    assert_eq!(answer.status, 204);
    world
        .icinga
        .by_hand("NOTIFY icinga_desktop_incident, 'nonsense'")
        .await;
    world.icinga.sign_out(&bob.session_id).await;
    wait_for_metrics(
        &admin,
        &[
            ("refused_total{reason=\"malformed\"}", 1.0),
            ("refused_total{reason=\"unknown_session\"}", 1.0),
            ("refused_total{reason=\"user_agent\"}", 1.0),
            ("refused_total{reason=\"no_cookie\"}", 1.0),
            ("refused_total{reason=\"third_stream\"}", 1.0),
            ("refused_total{reason=\"no_contact\"}", 1.0),
            ("notifications_malformed_total", 1.0),
            ("revoked_total", 1.0),
            ("users", 1.0),
            ("streams", 1.0),
        ],
    )
    .await;

    // A session with a query that was ended is connected anew.
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
async fn browsers_that_are_told_to_come_back_are_counted() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "postponed").await;
    let alice = world.user("alice").await;
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let answer = Answer::subscribe(&world.daemon.address, &alice.session_id).await;
    assert_eq!(answer.status, 200);
    wait_for_metrics(&admin, &[("postponed_total{reason=\"database\"}", 1.0)]).await;
}
