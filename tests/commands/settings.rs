//! The configuration as the commands read and show it: its settings, and how its errors read.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::net::TcpListener;
use std::process::Output;

use crate::common::command::run;
use crate::common::daemon::ConfigDir;
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::{installed, resource};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn settings_are_shown_without_secrets() {
    let config = ConfigDir::new(
        "port = 9002",
        "dbname = d\nusername = u\npassword = hunter2",
    );
    let output = config
        .command(&["check", "--config-only"])
        .output()
        .unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in [
        "daemon.host = [::]",
        "daemon.port = 9002",
        "database.resource = icinga_notifications",
        "database.host = /var/run/postgresql",
        "database.dbname = d",
        "database.username = u",
        "database.password = ***",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn errors_of_the_configuration_name_file_section_and_key_and_exit_with_78() {
    for (daemon, resource, parts) in [
        ("port = 70000", "", vec!["config.ini", "[daemon]", "port"]),
        (
            "host = not a host",
            "",
            vec!["config.ini", "[daemon]", "host"],
        ),
        (
            "",
            "db = \"mysql\"",
            vec![
                "resources.ini",
                "[icinga_notifications]",
                "db",
                "PostgreSQL",
            ],
        ),
        (
            "",
            "port = x",
            vec!["resources.ini", "[icinga_notifications]", "port"],
        ),
        (
            "",
            "use_ssl = 1\nssl_ca = /no/such/file",
            vec!["resources.ini", "ssl_ca", "/no/such/file"],
        ),
    ] {
        for arguments in [&["run"][..], &["check"], &["check", "--config-only"]] {
            let output = ConfigDir::new(daemon, resource)
                .command(arguments)
                .output()
                .unwrap();
            assert_eq!(
                output.status.code(),
                Some(78),
                "{daemon} {resource} {arguments:?}"
            );
            let text = stderr(&output);
            for part in &parts {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    let config = ConfigDir::new("", "");
    std::fs::remove_file(config.path().join("resources.ini")).unwrap();
    let output = config.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("resources.ini"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn unknown_keys_of_the_daemon_are_warned_about() {
    let config = ConfigDir::new("hots = x", "");
    let output = config
        .command(&["check", "--config-only"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = stderr(&output);
    assert!(
        text.contains("WARN") && text.contains("hots") && text.contains("config.ini"),
        "{text}"
    );
}

#[test]
fn an_address_that_others_reach_is_warned_about_and_one_that_is_taken_is_named() {
    let (database, role) = installed(Cluster::shared(), "taken", Shape::V1_0);
    let resource = resource(&database, &role);
    // Of the range for documentation, which no machine has: so nothing is opened to anybody here.
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0\nadmin = 192.0.2.1:9002",
        &resource,
    );
    for (arguments, code) in [(["check", "--config-only"], 0), (["run", "--verbose"], 1)] {
        let (exit, text) = run(&config, &arguments);
        assert_eq!(exit, Some(code), "{text}");
        for part in [
            "WARN",
            "[daemon] admin",
            "192.0.2.1:9002 can be reached from other machines",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        if code == 0 {
            assert!(text.contains("daemon.admin = 192.0.2.1:9002\n"), "{text}");
        } else {
            assert!(text.contains("cannot listen on 192.0.2.1:9002: "), "{text}");
        }
    }
    let (exit, text) = run(&config, &["check"]);
    assert!(
        exit == Some(0) && text.contains("can be reached from other machines"),
        "{text}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = ConfigDir::new(
        &format!("host = 127.0.0.1\nport = 0\nadmin = {address}"),
        &resource,
    );
    let (exit, text) = run(&config, &["run"]);
    assert_eq!(exit, Some(1), "{text}");
    let expected = format!("cannot listen on {address}: Address already in use");
    for part in [
        expected.as_str(),
        "check [daemon] admin",
        "who else listens there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let config = ConfigDir::new("admin = 9002", &resource);
    for arguments in [&["run"][..], &["check"], &["send-test", "alice"]] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(78), "{text}");
        assert!(
            text.contains("config.ini, line 2, [daemon] admin: give an IP address and a port"),
            "{text}"
        );
    }
}
