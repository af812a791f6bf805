//! What the manual and the examples for monitoring systems say of a daemon is so.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::common::admin::{get, monitored, wait_for_readiness};
use crate::common::command::Said;
use crate::common::postgres::Cluster;

/// The metrics that a text about monitoring names: everything that begins with the prefix, but for channels.
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
        // As they are queried.
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

    // Wherever else one is named, in queries and examples, it exists.
    let histogram = "icinga_desktop_event_latency_seconds";
    for path in ["doc/monitoring.md", "packaging/icinga/desktop-bridge.conf"] {
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

/// A program of the packages that `tests/run.sh` installs.
fn installed_program(path: &str, package: &str) -> Command {
    assert!(Path::new(path).exists(), "no {path}: install {package}");
    Command::new(path)
}

/// Who runs this, or their group.
fn id(what: &str) -> String {
    let output = Command::new("id").arg(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The shipped example for Icinga.
const EXAMPLE: &str = "packaging/icinga/desktop-bridge.conf";

#[test]
fn icinga_itself_takes_the_example() {
    // With the host that it is for and Icinga's own definitions.
    let dir = tempfile::tempdir().unwrap();
    let configuration = dir.path().join("icinga2.conf");
    let host = format!(
        "include <itl>\ninclude <plugins>\nconst PluginDir = \"/usr/lib/nagios/plugins\"\nconst NodeName = \"test\"\n\
         object Host \"bridge1\" {{\n  check_command = \"dummy\"\n  vars.desktop_bridge = true\n  vars.desktop_bridge_port = 9002\n}}\n\
         include \"{}\"\n",
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(EXAMPLE)
            .display()
    );
    std::fs::write(&configuration, host).unwrap();
    let mut icinga = installed_program("/usr/sbin/icinga2", "icinga2-bin");
    // As the user who runs this, with everything that it writes in that directory.
    icinga
        .env("ICINGA2_USER", id("-un"))
        .env("ICINGA2_GROUP", id("-gn"))
        .args(["daemon", "--validate", "--config"])
        .arg(&configuration);
    for setting in ["DataDir", "CacheDir", "InitRunDir", "LogDir"] {
        icinga.args(["-D", &format!("{setting}={}", dir.path().display())]);
    }
    let said = Said::by(&mut icinga);
    assert_eq!(said.code, Some(0), "{said}");
    let text = said.to_string();
    assert!(text.contains("Instantiated 1 Service."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_that_the_example_runs_sees_the_daemon_and_that_its_database_is_gone() {
    let cluster = Cluster::private();
    let (_world, admin) = monitored(&cluster, "plugin").await;
    let port = admin.rsplit(':').next().unwrap();
    // What the example makes Icinga run.
    let (path, expected) = ("/health/ready", "200 OK");
    let shipped = file(EXAMPLE);
    for part in [
        format!("\"-u\" = \"{path}\""),
        format!("value = \"{expected}\""),
    ] {
        assert!(shipped.contains(&part), "{part}");
    }
    let plugin = "/usr/lib/nagios/plugins/check_http";
    let check = || {
        let mut command = installed_program(plugin, "monitoring-plugins-basic");
        command.args(["-I", "127.0.0.1", "-p", port, "-u", path]);
        Said::by(command.args(["-e", expected, "-t", "10"]))
    };
    let said = check();
    assert_eq!(said.code, Some(0), "{said}");
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let said = check();
    assert_eq!(said.code, Some(2), "{said}");
}
