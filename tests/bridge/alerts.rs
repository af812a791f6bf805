//! The shipped rules for Prometheus: each alert fires when it should and not earlier, over the metrics of the daemon; and a real
//! Prometheus scrapes the daemon and evaluates them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::common::admin::{metrics, monitored};
use crate::common::postgres::Cluster;
use crate::common::prometheus::{Prometheus, RULES, promtool};
use crate::common::wait::eventually;

/// A series, minute by minute: the name after the prefix, and values in promtool's notation.
type Change = (&'static str, &'static str);

/// For each alert: series that make it fire at minute 100, and series that do not. All others are those of an idle daemon.
const ALERTS: [(&str, &[Change], &[Change]); 14] = [
    (
        "DesktopBridgeDown",
        &[("up", "1+0x97 0 0 0")],
        &[("up", "1+0x98 0 0")],
    ),
    (
        "DesktopBridgeNotReady",
        &[("ready", "1+0x97 0 0 0")],
        &[("ready", "1+0x98 0 0")],
    ),
    // 95 % of the events take between 1 and 2.5 seconds; then between 0.5 and 1.
    (
        "DesktopBridgeSlow",
        &[
            ("event_latency_seconds_bucket{le=\"2.5\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"5.0\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"10.0\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"+Inf\"}", "0+9x120"),
        ],
        &[
            ("event_latency_seconds_bucket{le=\"1.0\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"2.5\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"5.0\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"10.0\"}", "0+9x120"),
            ("event_latency_seconds_bucket{le=\"+Inf\"}", "0+9x120"),
        ],
    ),
    // 12 in an hour, of two sessions together; then 6.
    (
        "DesktopBridgeReconnects",
        &[
            ("database_reconnects_total{session=\"query\"}", "0+0.1x120"),
            (
                "database_reconnects_total{session=\"sign-in\"}",
                "0+0.1x120",
            ),
        ],
        &[("database_reconnects_total{session=\"query\"}", "0+0.1x120")],
    ),
    (
        "DesktopBridgeWithoutBell",
        &[("rows_without_bell_total", "0+0.2x120")],
        &[("rows_without_bell_total", "0+0.15x120")],
    ),
    (
        "DesktopBridgeNearlyFull",
        &[("streams", "901+0x120"), ("streams_limit", "1000+0x120")],
        &[("streams", "900+0x120"), ("streams_limit", "1000+0x120")],
    ),
    (
        "DesktopBridgeForeignNotifications",
        &[("notifications_malformed_total", ONCE)],
        &[("notifications_malformed_total", LONG_AGO)],
    ),
    (
        "DesktopBridgeDropsEvents",
        &[("events_total{outcome=\"dropped\"}", ONCE)],
        &[("events_total{outcome=\"dropped\"}", LONG_AGO)],
    ),
    (
        "DesktopBridgeDropsEvents",
        &[("notifications_overflowed_total", ONCE)],
        &[("notifications_overflowed_total", LONG_AGO)],
    ),
    (
        "DesktopBridgeUnacknowledged",
        &[("events_total{outcome=\"unacknowledged\"}", ONCE)],
        &[("events_total{outcome=\"unacknowledged\"}", LONG_AGO)],
    ),
    (
        "DesktopBridgeOldTransaction",
        &[("floor_age_seconds", "3601+0x120")],
        &[("floor_age_seconds", "3600+0x120")],
    ),
    (
        "DesktopBridgeUsersWithoutContact",
        &[("refused_total{reason=\"no_contact\"}", ONCE)],
        &[("refused_total{reason=\"unknown_session\"}", ONCE)],
    ),
    // A day is longer than an hour.
    (
        "DesktopBridgeUsersWithoutContact",
        &[("refused_total{reason=\"no_contact\"}", LONG_AGO)],
        &[],
    ),
    // Not a problem: events that are sent again, and browsers that prove nothing.
    (
        "",
        &[],
        &[
            ("events_total{outcome=\"returned\"}", "0+9x120"),
            ("returns_total{proof=\"none\"}", "0+9x120"),
            ("postponed_total{reason=\"third_stream\"}", "0+9x120"),
            ("revoked_total", "0+9x120"),
        ],
    ),
];

/// Within the last hour at minute 100.
const ONCE: &str = "0+0x90 1+0x30";

/// Before it.
const LONG_AGO: &str = "0+0x30 1+0x90";

/// The metrics of a daemon as series in promtool's notation, some of them changed.
fn series(samples: &BTreeMap<String, f64>, changes: &[Change]) -> Vec<Value> {
    let mut values: BTreeMap<&str, String> = samples
        .iter()
        .map(|(name, value)| (name.as_str(), format!("{value}+0x120")))
        .collect();
    for (name, change) in changes {
        let name = (samples.keys())
            .find(|known| known.trim_start_matches("icinga_desktop_") == *name)
            .unwrap_or_else(|| panic!("the daemon has no {name}: {samples:#?}"));
        values.insert(name, (*change).to_owned());
    }
    let target = "instance=\"127.0.0.1:9002\",job=\"icinga-desktop-bridge\"";
    let named = |name: &str| match name.split_once('{') {
        Some((name, labels)) => format!("{name}{{{target},{labels}"),
        None => format!("{name}{{{target}}}"),
    };
    let series = values.iter();
    series
        .map(|(name, values)| json!({ "series": named(name), "values": values }))
        .collect()
}

/// A test in promtool's format: only this alert fires, or none.
fn test(name: String, series: Vec<Value>, alert: Option<&str>) -> Value {
    let firing: Vec<Value> = (alert.iter())
        .map(|alert| json!({ "labels": format!("{{alertname=\"{alert}\"}}"), "value": 1 }))
        .collect();
    json!({
        "name": name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            // For the instance in its text.
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\",instance=\"127.0.0.1:9002\"})",
            "eval_time": "100m",
            "exp_samples": firing,
        }],
    })
}

/// The shipped alerts.
fn alerts() -> BTreeSet<String> {
    let rules = std::fs::read_to_string(RULES).unwrap();
    let names = rules
        .lines()
        .filter_map(|line| line.split_once("- alert: "));
    names.map(|(_, name)| name.to_owned()).collect()
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_not_before() {
    let (_world, admin) = monitored(Cluster::shared(), "alerts").await;
    let mut samples = metrics(&admin).await;
    // The metric of Prometheus.
    samples.insert("up".to_owned(), 1.0);
    let mut tests = Vec::new();
    for (alert, firing, quiet) in &ALERTS {
        if !firing.is_empty() {
            let name = format!("{alert} fires");
            tests.push(test(name, series(&samples, firing), Some(alert)));
        }
        tests.push(test(
            format!("{alert} is quiet"),
            series(&samples, quiet),
            None,
        ));
    }
    let tested: BTreeSet<String> = (ALERTS.iter())
        .map(|(alert, ..)| (*alert).to_owned())
        .filter(|alert| !alert.is_empty())
        .collect();
    assert_eq!(tested, alerts());
    let rules = format!("{}/{RULES}", env!("CARGO_MANIFEST_DIR"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let all = json!({ "rule_files": [rules], "evaluation_interval": "1m", "tests": tests });
    std::fs::write(file.path(), all.to_string()).unwrap();
    let said = promtool(&["test", "rules", file.path().to_str().unwrap()]);
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn the_checker_of_rules_has_nothing_to_say() {
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES]);
    let found = format!("{} rules found", alerts().len());
    assert!(said.contains("SUCCESS") && said.contains(&found), "{said}");
}

#[tokio::test]
async fn prometheus_itself_asks_the_daemon_and_raises_an_alert() {
    let cluster = Cluster::private();
    let (_world, admin) = monitored(&cluster, "prometheus").await;
    let prometheus = Prometheus::scraping(&admin);
    // As an alert, by state.
    let state = async |wanted: &str| {
        eventually(async || {
            let rules = prometheus.rules().await?;
            let bad: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
            let ready = rules
                .iter()
                .find(|rule| rule["name"] == "DesktopBridgeNotReady");
            match ready {
                Some(ready) if bad.is_empty() && ready["state"] == wanted => Ok(ready.clone()),
                _ => Err(format!("{bad:#?} {ready:#?}")),
            }
        })
        .await
    };
    eventually(async || {
        prometheus
            .query("icinga_desktop_ready == 1 and on (instance) up == 1")
            .await
    })
    .await;
    state("inactive").await;
    cluster.stop();
    // Two minutes must pass before it fires.
    let rule = state("pending").await;
    let annotations = &rule["alerts"][0]["annotations"];
    let summary = format!("The bridge at {admin} is not ready");
    assert_eq!(annotations["summary"], summary.as_str(), "{rule:#}");
}
