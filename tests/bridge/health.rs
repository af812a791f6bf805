//! The admin listener: whether there is one, its answers, and readiness, which depends on the database.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::BTreeSet;

use crate::common::admin::{
    MONITORED, admin_address, get, metrics, monitored, send, wait_for_metrics, wait_for_readiness,
};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::sse::Answer;
use crate::common::world::{World, installed, resource};

/// TCP sockets on which a process listens.
fn listening_sockets(pid: u32) -> usize {
    let inodes: BTreeSet<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
            let sockets = text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
            sockets.into_iter().filter_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                // TCP_LISTEN of the kernel's tcp_states.h.
                (fields[3] == "0A").then(|| format!("socket:[{}]", fields[9]))
            })
        })
        .collect();
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| inodes.contains(target.to_str().unwrap_or_default()))
        .count()
}

#[tokio::test]
async fn nobody_is_monitored_unless_asked_for() {
    let plain = World::new("plain").await;
    assert_eq!(listening_sockets(plain.daemon.pid()), 1);
    let (monitored, _) = monitored(Cluster::shared(), "monitored").await;
    assert_eq!(listening_sockets(monitored.daemon.pid()), 2);
    assert!(!plain.daemon.log().contains("health and metrics"));
}

#[tokio::test]
async fn what_the_admin_listener_answers() {
    let (world, admin) = monitored(Cluster::shared(), "answers").await;
    let text = "text/plain; charset=utf-8".to_owned();
    assert_eq!(
        get(&admin, "/health/live").await,
        (200, text.clone(), "alive\n".to_owned())
    );
    assert_eq!(
        get(&admin, "/health/ready").await,
        (200, text, "ready\n".to_owned())
    );
    let (status, content_type, report) = get(&admin, "/health").await;
    assert_eq!((status, content_type.as_str()), (200, "application/json"));
    assert!(
        report.contains("\"impediment\":null,\"streams\":0,"),
        "{report}"
    );
    for path in [
        "//",
        "/health/",
        "/health/ready/",
        "/metrics/x",
        "/notifications/v1/subscribe",
    ] {
        let (status, _, body) = get(&admin, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("/metrics"), "{body}");
    }
    let paths = [
        "/",
        "/live",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
    ];
    for path in paths {
        let answer = send(&admin, "POST", path).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET")),
            "{path}"
        );
    }
    // And the reverse: the listener for browsers does not have these paths.
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_admin_listener_is_there_while_others_hold_its_connections() {
    let (_world, admin) = monitored(Cluster::shared(), "held").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(tokio::net::TcpStream::connect(&admin).await.unwrap());
    }
    // Silent ones are cut after ten seconds, and those in the kernel's queue are served then.
    assert_eq!(get(&admin, "/health/live").await.0, 200);
}

#[tokio::test]
async fn readiness_follows_the_database() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "readiness").await;
    let sessions = ["listener", "query", "sign-in"];
    let up = sessions.map(|session| format!("database_up{{session=\"{session}\"}}"));
    let all = |value| up.each_ref().map(|name| (name.as_str(), value));
    wait_for_metrics(&admin, &all(1.0)).await;
    wait_for_metrics(&admin, &[("ready", 1.0)]).await;
    cluster.stop();
    let reason = wait_for_readiness(&admin, 503).await;
    assert_eq!(reason.lines().count(), 1, "{reason}");
    assert!(reason.contains("database"), "{reason}");
    wait_for_metrics(&admin, &all(0.0)).await;
    wait_for_metrics(&admin, &[("ready", 0.0)]).await;
    assert_eq!(get(&admin, "/health/live").await.0, 200);
    let before = metrics(&admin).await;
    for session in sessions {
        let name = format!("icinga_desktop_database_reconnects_total{{session=\"{session}\"}}");
        assert_eq!(before[&name], 1.0, "{session}");
    }
    cluster.start();
    assert_eq!(wait_for_readiness(&admin, 200).await, "ready\n");
    wait_for_metrics(&admin, &all(1.0)).await;
    let after = metrics(&admin).await;
    assert!(after["icinga_desktop_gaps_total"] > before["icinga_desktop_gaps_total"]);
    assert!(!world.daemon.log().contains("panicked"));
}

#[tokio::test]
async fn without_a_database_the_daemon_is_alive_and_not_ready() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "unready", Shape::V1_0);
    cluster.stop();
    let daemon = Daemon::launch(ConfigDir::new(MONITORED, &resource(&database, &role)));
    let admin = admin_address(&daemon);
    assert_eq!(get(&admin, "/health/live").await.0, 200);
    let (status, _, reason) = get(&admin, "/health/ready").await;
    assert_eq!(status, 503);
    assert!(
        reason.starts_with("not listening to the database"),
        "{reason}"
    );
    cluster.start();
    wait_for_readiness(&admin, 200).await;
}
