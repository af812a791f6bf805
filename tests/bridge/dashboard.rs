//! The shipped dashboard for Grafana: it is of Grafana's own types, and every query of it finds something in what Prometheus has
//! asked of the real daemon.
//!
//! Grafana itself cannot be had from the registries that tests may use. Its types can, and they are what its own panels are
//! compiled against.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::admin::{metrics, monitored};
use crate::common::command::Said;
use crate::common::postgres::Cluster;
use crate::common::prometheus::Prometheus;
use crate::common::wait::eventually;

const DASHBOARD: &str = "packaging/grafana/icinga-desktop-bridge.json";

/// Where its types are, and what `npm` made of them.
const TYPES: &str = "tests/grafana";

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// Every query, with the format of its legend.
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

#[test]
fn the_dashboard_is_of_grafanas_own_types() {
    let compiler = Path::new(TYPES).join("node_modules/.bin/tsc");
    assert!(
        compiler.exists(),
        "no {}: npm ci --prefix {TYPES}",
        compiler.display()
    );
    let dashboard = dashboard();
    // A literal of each type: of another expression the compiler would take unknown keys.
    let mut code = format!(
        "import type {{ Panels, Query, Whole }} from \"{}/{TYPES}/plain\";\nconst whole: Whole = {dashboard};\n",
        env!("CARGO_MANIFEST_DIR")
    );
    for (index, panel) in panels(&dashboard).iter().enumerate() {
        let kind = format!("Panels[{}]", panel["type"]);
        for (name, kind, value) in [
            (
                "options",
                format!("{kind}[\"options\"]"),
                panel.get("options"),
            ),
            (
                "custom",
                format!("{kind}[\"custom\"]"),
                panel.pointer("/fieldConfig/defaults/custom"),
            ),
            (
                "targets",
                "Query[] | undefined".to_owned(),
                panel.get("targets"),
            ),
        ] {
            let value = value.map_or("undefined".to_owned(), Value::to_string);
            writeln!(code, "const {name}{index}: {kind} = {value};").unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dashboard.ts");
    std::fs::write(&file, code).unwrap();
    let said = Said::by(
        Command::new(compiler)
            .args([
                "--noEmit", "--strict", "--target", "es2022", "--module", "esnext",
            ])
            .args(["--moduleResolution", "bundler"])
            .arg(&file),
    );
    assert_eq!(said.code, Some(0), "{said}");
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_something() {
    let (world, admin) = monitored(Cluster::shared(), "dashboard").await;
    let prometheus = Prometheus::scraping(&admin);
    let mut alice = world.user("alice").await;
    // Rates are of what changes after it was first asked for.
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
