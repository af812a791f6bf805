//! What the manual and the examples for monitoring systems say about a daemon is true.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::admin::{get, monitored, wait_for_metrics};
use crate::common::guardian::Guardian;
use crate::common::icinga2::{SHIPPED, icinga2};
use crate::common::perfdata::figures;
use crate::common::postgres::Cluster;
use crate::common::wait::eventually;

/// The metrics that a text about monitoring names: everything that begins with the prefix, except channels.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("icinga_desktop_") && *word != "icinga_desktop_ask")
        .map(str::to_owned)
        .collect()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test]
async fn the_manual_lists_exactly_the_metrics_that_there_are() {
    let (_world, admin) = monitored(Cluster::shared(), "manual").await;
    let (_, _, text) = get(&admin, "/metrics").await;
    let mut exposed: BTreeMap<String, &str> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // As in queries.
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        exposed.insert(format!("{name}{suffix}"), kind);
    }
    let manual = file("doc/monitoring.md");
    let documented: BTreeMap<String, &str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `icinga_desktop_"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`');
            (format!("icinga_desktop_{name}"), cells.next().unwrap())
        })
        .collect();
    assert_eq!(documented, exposed);

    // All metrics named elsewhere, in queries and examples, exist.
    let histogram = "icinga_desktop_event_latency_seconds";
    for path in ["doc/monitoring.md", SHIPPED] {
        for name in named(&file(path)) {
            let base = name
                .trim_end_matches("_bucket")
                .trim_end_matches("_count")
                .trim_end_matches("_sum");
            assert!(
                exposed.contains_key(&name) || base == histogram,
                "{path}: {name}"
            );
        }
    }
    // And each value of each label is explained.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else {
            continue;
        };
        let mut parts = labels.split('"');
        let (label, value) = (parts.next().unwrap(), parts.next().unwrap());
        if label != "version=" && label != "le=" {
            assert!(manual.contains(&format!("`{value}`")), "{line}");
        }
    }
}

/// The shipped basket for Icinga Director.
const BASKET: &str = "packaging/icinga/director-basket.json";

/// Where the shipped configuration expects the plugin.
const INSTALLED: &str = "/usr/bin/icinga-desktop-bridge";

/// Runs Icinga until standard input closes, which only the test process keeps open.
const UNTIL_THE_END: &str = r#"
    trap : HUP INT TERM
    "$@" &
    cat > /dev/null
    kill -TERM $!
    wait $!
"#;

/// The check results that Icinga has processed so far, a line each.
fn results(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("results.") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines
}

#[tokio::test]
async fn icinga_runs_the_plugin_and_reads_its_figures() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "plugin").await;
    let mut alice = world.user("alice").await;
    world.incident(alice.contact, "db1!disk").await;
    alice.tab.event().await;
    wait_for_metrics(&admin, &[("event_latency_seconds_count", 1.0)]).await;
    let directory = tempfile::tempdir().unwrap();
    // As shipped, except for the path of the plugin and its interval.
    let mut bridge = file(SHIPPED);
    for (shipped, here) in [
        (INSTALLED, env!("CARGO_BIN_EXE_icinga-desktop-bridge")),
        ("check_interval = 1m", "check_interval = 1s"),
        ("retry_interval = 20s", "retry_interval = 1s"),
    ] {
        assert_eq!(bridge.matches(shipped).count(), 1, "{shipped}");
        bridge = bridge.replace(shipped, here);
    }
    let path = directory.path().display();
    let configured = format!(
        "object CheckerComponent \"checker\" {{ }}\n\
         object PerfdataWriter \"perfdata\" {{\n\
         host_perfdata_path = \"{path}/hosts\"\nhost_temp_path = \"{path}/hosts.now\"\n\
         service_perfdata_path = \"{path}/results\"\nservice_temp_path = \"{path}/now\"\nrotation_interval = 1s\n\
         service_format_template = \"$service.state$ $service.output$|$service.perfdata$\"\n}}"
    );
    let vars =
        format!("vars.desktop_bridge_admin = \"{admin}\"\nvars.desktop_bridge_warning = \"30\"");
    let icinga = icinga2(directory.path(), &bridge, &vars, &configured);
    let _running = Guardian::start(UNTIL_THE_END, |shell| {
        shell.arg(icinga.get_program()).args(icinga.get_args());
        for (name, value) in icinga.get_envs() {
            shell.env(name, value.unwrap());
        }
    });
    let found = async |what: &str| {
        eventually(async || {
            let results = results(directory.path());
            let line = results.iter().find(|line| line.contains(what));
            line.cloned()
                .ok_or_else(|| format!("no {what}: {results:?}"))
        })
        .await
    };
    let line = found("OK DESKTOP-BRIDGE OK: 1 streams of 1 users").await;
    // As Icinga has parsed them, and prints them again.
    let read = figures(&line);
    let labels: Vec<&str> = read.iter().map(|figure| figure.label.as_str()).collect();
    let expected = [
        "streams",
        "users",
        "sessions_up",
        "round_age",
        "latency_p95",
        "events_without_receipt",
    ];
    assert_eq!(labels, expected, "{line}");
    let latency = &read[4];
    assert!(latency.value > 0.0 && latency.value < 30.0, "{line}");
    assert_eq!(
        (
            latency.unit.as_str(),
            latency.warning.as_str(),
            latency.critical.as_str()
        ),
        ("s", "30", "5")
    );
    cluster.stop();
    found("CRITICAL DESKTOP-BRIDGE CRITICAL: not ready: ").await;
}

/// The text between double quotes in a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_basket_for_the_director_says_what_the_configuration_says() {
    let basket: serde_json::Value = serde_json::from_str(&file(BASKET)).unwrap();
    let keys: Vec<&String> = basket.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Command", "Datafield", "ServiceTemplate"]);
    let (command, service) = (
        &basket["Command"]["desktop-bridge"],
        &basket["ServiceTemplate"]["desktop-bridge"],
    );
    for (object, kind) in [(command, "object"), (service, "template")] {
        assert_eq!(
            (&object["object_name"], &object["object_type"]),
            (&"desktop-bridge".into(), &kind.into())
        );
    }
    assert_eq!(service["check_command"], "desktop-bridge");
    assert_eq!(
        (&service["check_interval"], &service["retry_interval"]),
        (&"60".into(), &"20".into())
    );
    assert_eq!(
        (&service["max_check_attempts"], &command["timeout"]),
        (&"4".into(), &"30".into())
    );

    // The command: the Director splits it at spaces.
    let shipped = file(SHIPPED);
    let line = shipped
        .lines()
        .find(|line| line.contains("command = ["))
        .unwrap();
    let words: Vec<&str> = command["command"].as_str().unwrap().split(' ').collect();
    assert_eq!(words, quoted(line));
    let arguments = command["arguments"].as_object().unwrap();
    let in_file: Vec<&str> = (shipped.lines())
        .filter(|line| line.trim().starts_with("\"--"))
        .map(|line| quoted(line)[0])
        .collect();
    assert_eq!(arguments.len(), in_file.len());
    for option in in_file {
        let (_, rest) = shipped.split_once(&format!("\"{option}\" = {{")).unwrap();
        let mut lines = rest.lines().skip(1);
        for key in ["value", "description"] {
            let line = lines.next().unwrap();
            assert!(line.trim().starts_with(&format!("{key} = ")), "{line}");
            assert_eq!(arguments[option][key], quoted(line)[0], "{option}");
        }
    }
    let address = &command["vars"]["desktop_bridge_admin"];
    assert!(shipped.contains(&format!("vars.desktop_bridge_admin = {address}")));

    // Each variable has a field, and each field belongs to the command.
    let fields = basket["Datafield"].as_object().unwrap();
    let linked: BTreeSet<String> = (command["fields"].as_array().unwrap().iter())
        .map(|field| field["datafield_id"].to_string())
        .collect();
    assert_eq!(linked, fields.keys().cloned().collect());
    let of_fields: BTreeSet<String> = (fields.values())
        .map(|field| format!("${}$", field["varname"].as_str().unwrap()))
        .collect();
    let used: BTreeSet<String> = (arguments.values())
        .map(|argument| argument["value"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_fields, used);
    for field in fields.values() {
        assert_eq!(
            field["datatype"],
            r"Icinga\Module\Director\DataType\DataTypeString"
        );
    }
}
