//! The configuration as the commands read and show it: its settings and its errors.

use std::net::TcpListener;

use crate::common::command::{Said, run};
use crate::common::daemon::ConfigDir;
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::{installed, resource};

#[test]
fn settings_are_shown_without_secrets() {
    let config = ConfigDir::new(
        "port = 9002\nnotify = severity",
        "dbname = d\nusername = u\npassword = hunter2",
    );
    let said = Said::with(&config, &["check", "--config-only"]);
    assert_eq!(said.code, Some(0), "{said}");
    for line in [
        "daemon.host = [::]",
        "daemon.port = 9002",
        "daemon.replay_incidents = 5",
        "daemon.notify = severity",
        "daemon.session_days = 7",
        "database.resource = icinga_notifications",
        "database.host = /var/run/postgresql",
        "database.dbname = d",
        "database.username = u",
        "database.password = ***",
    ] {
        assert!(said.stdout.lines().any(|l| l == line), "{line}: {said}");
    }
    assert!(!said.stdout.contains("hunter2"), "{said}");
}

#[test]
fn errors_name_file_section_and_key_in_one_line_and_exit_with_78() {
    for (daemon, resource, parts) in [
        ("port = 70000", "", vec!["config.ini", "[daemon]", "port"]),
        (
            "host = not a host",
            "",
            vec!["config.ini", "[daemon]", "host"],
        ),
        (
            "notify = none",
            "",
            vec!["config.ini, line 2, [daemon] notify: ", "all", "severity"],
        ),
        (
            "session_days = 0",
            "",
            vec!["config.ini, line 2, [daemon] session_days: ", "1 to 365"],
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
            let said = Said::with(&ConfigDir::new(daemon, resource), arguments);
            assert_eq!(said.code, Some(78), "{daemon} {resource} {arguments:?}");
            for part in &parts {
                assert!(said.stderr.contains(part), "{part}: {said}");
            }
            assert_eq!(said.stderr.lines().count(), 1, "{said}");
        }
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let config = ConfigDir::new("", "");
    std::fs::remove_file(config.path().join("resources.ini")).expect("it is there");
    let said = Said::with(&config, &["run"]);
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("resources.ini"), "{said}");
}

#[test]
fn unknown_keys_of_the_daemon_are_warned_about() {
    let config = ConfigDir::new("hots = x", "");
    let said = Said::with(&config, &["check", "--config-only"]);
    assert_eq!(said.code, Some(0));
    for part in ["WARN", "hots", "config.ini"] {
        assert!(said.stderr.contains(part), "{part}: {said}");
    }
}

#[test]
fn an_admin_address_that_others_reach_is_warned_about() {
    let (database, role) = installed(Cluster::shared(), "reached", Shape::V1_0);
    // From the range for documentation, which no machine has: so nothing is opened to anyone here.
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0\nadmin = 192.0.2.1:9002",
        &resource(&database, &role),
    );
    for (arguments, code, and) in [
        (
            &["check", "--config-only"][..],
            0,
            "daemon.admin = 192.0.2.1:9002\n",
        ),
        (
            &["run", "--verbose"][..],
            1,
            "cannot listen on 192.0.2.1:9002: ",
        ),
        (&["check"][..], 0, "ok    connection: "),
    ] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(code), "{text}");
        for part in [
            "WARN",
            "[daemon] admin",
            "192.0.2.1:9002 can be reached from other machines",
            and,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn an_admin_address_that_is_taken_is_named() {
    let (database, role) = installed(Cluster::shared(), "taken", Shape::V1_0);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    let config = ConfigDir::new(
        &format!("host = 127.0.0.1\nport = 0\nadmin = {address}"),
        &resource(&database, &role),
    );
    let (exit, text) = run(&config, &["run"]);
    assert_eq!(exit, Some(1), "{text}");
    let expected = format!("cannot listen on {address}: Address already in use");
    for part in [
        expected.as_str(),
        "check [daemon] admin",
        "which program listens there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_admin_address_without_a_host_is_an_error_of_every_command() {
    let config = ConfigDir::new("admin = 9002", "dbname = x\nusername = x");
    for arguments in [
        &["run"][..],
        &["check"],
        &["send-test", "alice"],
        &["explain", "alice"],
    ] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(78), "{text}");
        assert!(
            text.contains("config.ini, line 2, [daemon] admin: give an IP address and a port"),
            "{text}"
        );
    }
}
