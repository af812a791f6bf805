//! The shipped dashboard for Grafana: each of its queries finds data that Prometheus has scraped from the real daemon.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::admin::{metrics, monitored};
use crate::common::postgres::Cluster;
use crate::common::prometheus::Prometheus;
use crate::common::wait::eventually;

const DASHBOARD: &str = "packaging/grafana/icinga-desktop-bridge.json";

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// All queries, with the format of their legends.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let targets = panels(dashboard)
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    targets
        .flatten()
        .map(|target| {
            (
                target["expr"].as_str().unwrap(),
                target["legendFormat"].as_str().unwrap(),
            )
        })
        .collect()
}

/// The labels that a legend shows.
fn shown(legend: &str) -> Vec<&str> {
    let parts = legend.split("{{").skip(1);
    parts.map(|part| part.split("}}").next().unwrap()).collect()
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_something() {
    let (world, admin) = monitored(Cluster::shared(), "dashboard").await;
    let prometheus = Prometheus::scraping(&admin);
    let mut alice = world.user("alice").await;
    // A rate needs changes after the first scrape.
    eventually(async || prometheus.query("icinga_desktop_users == 1").await).await;
    world.incident(alice.contact, "db1!disk").await;
    alice.tab.event().await;
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "{queries:?}");
    for (query, legend) in &queries {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".+");
        assert!(!query.contains('$'), "{query}");
        let found = eventually(async || prometheus.query(&query).await).await;
        for label in shown(legend) {
            for labels in &found {
                assert!(
                    labels[label].is_string(),
                    "{query} has no {label}: {labels}"
                );
            }
        }
    }
    for sample in metrics(&admin).await.keys() {
        let name = sample.split('{').next().unwrap();
        assert!(
            queries
                .iter()
                .any(|(query, _)| query.contains(&format!("{name}{{"))),
            "the dashboard does not show {name}"
        );
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_cover_each_other() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{}",
            panel["title"]
        );
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} at {place:?}", panel["title"]);
        }
    }
}
