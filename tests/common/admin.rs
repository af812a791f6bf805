//! The admin listener of a monitored daemon, and its client: health and metrics.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::BTreeMap;

use super::daemon::{ConfigDir, Daemon};
use super::icinga::Shape;
use super::postgres::Cluster;
use super::sse::Answer;
use super::wait::eventually;
use super::world::{World, installed, resource};

/// `[daemon]` of a daemon that is monitored.
pub(crate) const MONITORED: &str = "host = 127.0.0.1\nport = 0\nadmin = 127.0.0.1:0";

/// A world with a monitored daemon, and its admin address.
pub(crate) async fn monitored(cluster: &Cluster, hint: &str) -> (World, String) {
    let (database, role) = installed(cluster, hint, Shape::V1_0);
    let daemon = Daemon::launch(ConfigDir::new(MONITORED, &resource(&database, &role)));
    daemon.wait_for_log("ready: ");
    let admin = admin_address(&daemon);
    let world = World::of(daemon, database, role, Shape::V1_0).await;
    (world, admin)
}

pub(crate) fn admin_address(daemon: &Daemon) -> String {
    let line = daemon.wait_for_log("health and metrics on http://");
    line.rsplit("http://").next().unwrap().to_owned()
}

/// Requests a path of the admin listener: status, content type, body.
pub(crate) async fn get(admin: &str, path: &str) -> (u16, String, String) {
    let mut answer = send(admin, "GET", path).await;
    let content_type = answer.header("content-type").unwrap().to_owned();
    (answer.status, content_type, answer.rest().await)
}

pub(crate) async fn send(admin: &str, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    Answer::to(admin, request.as_bytes()).await
}

/// The samples of `/metrics`, by name and labels.
pub(crate) async fn metrics(admin: &str) -> BTreeMap<String, f64> {
    let (status, content_type, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(
        content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Waits until the metrics are as `expected`, by the names without the prefix.
pub(crate) async fn wait_for_metrics(admin: &str, expected: &[(&str, f64)]) {
    eventually(async || {
        let seen = metrics(admin).await;
        let holds = |(name, value): &(&str, f64)| seen[&format!("icinga_desktop_{name}")] == *value;
        if expected.iter().all(holds) {
            Ok(())
        } else {
            Err(format!("not {expected:?}: {seen:#?}"))
        }
    })
    .await;
}

/// Waits for so many looks on the interval.
pub(crate) async fn wait_for_interval_looks(admin: &str, count: f64) {
    let looks = "icinga_desktop_looks_total{cause=\"interval\"}";
    let before = metrics(admin).await[looks];
    eventually(async || match metrics(admin).await[looks] {
        seen if seen >= before + count => Ok(()),
        seen => Err(format!("{seen} looks on the interval")),
    })
    .await;
}

/// Waits until `/health/ready` answers with this status, and returns its line.
pub(crate) async fn wait_for_readiness(admin: &str, status: u16) -> String {
    eventually(async || {
        let (answered, _, line) = get(admin, "/health/ready").await;
        if answered == status {
            Ok(line)
        } else {
            Err(format!("{answered} instead of {status}: {line}"))
        }
    })
    .await
}
