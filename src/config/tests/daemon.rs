//! `[daemon]`: where to listen, and how streams are served.

use super::*;

/// The addresses to listen on with these keys.
fn listen(keys: &str) -> Vec<Listen> {
    Setup::daemon(keys).config().daemon.listen
}

fn host(value: &str) -> Host {
    let mut listen = listen(&format!("host = {value}"));
    assert_eq!(listen.len(), 1, "{listen:?}");
    listen.remove(0).host
}

#[test]
fn absent_or_empty_settings_mean_the_defaults() {
    let default = Daemon {
        listen: vec![
            Listen {
                host: Host::Any,
                port: 9001,
            },
            Listen {
                host: Host::Address("127.0.0.1".parse().unwrap()),
                port: 5664,
            },
        ],
        tuning: Tuning {
            keep_alive: Duration::from_secs(15),
            replay: Limits {
                age: Duration::from_secs(3600),
                incidents: 5,
            },
            notify: Kinds::All,
            session_days: 7,
        },
        admin: None,
    };
    assert_eq!(
        Setup::daemon("host =\nport = \"\"").config().daemon,
        default
    );
    let none = Setup::new(RESOURCE, "[notifications]\ndb = pgsql\n");
    assert_eq!(none.config().daemon, default);
}

#[test]
fn a_host_or_a_port_replaces_both_default_addresses() {
    for (keys, expected) in [
        ("host = [::]", "[::]:9001"),
        ("host = 127.0.0.1", "127.0.0.1:9001"),
        ("port = 5664", "[::]:5664"),
        ("host =\nport = 9001", "[::]:9001"),
        ("host = 127.0.0.1\nport = 5664", "127.0.0.1:5664"),
        ("host = /run/x.sock", "/run/x.sock"),
    ] {
        let listen = listen(keys);
        let shown: Vec<_> = listen.iter().map(Listen::to_string).collect();
        assert_eq!(shown, [expected], "{keys}");
    }
}

#[test]
fn the_time_between_keep_alives_is_1_to_3600_seconds() {
    let daemon = Setup::daemon("keep_alive_seconds = 25").config().daemon;
    assert_eq!(daemon.tuning.keep_alive, Duration::from_secs(25));
    for value in ["0", "3601", "15s", "-1"] {
        let error = Setup::daemon(&format!("keep_alive_seconds = {value}")).error();
        assert!(
            error.contains("keep_alive_seconds") && error.contains("1 to 3600"),
            "{error}"
        );
    }
}

#[test]
fn the_bounds_of_a_replay_are_whole_numbers() {
    let daemon = Setup::daemon("replay_minutes = 5\nreplay_incidents = 0")
        .config()
        .daemon;
    assert_eq!(daemon.tuning.replay.age, Duration::from_secs(300));
    assert_eq!(daemon.tuning.replay.incidents, 0);
    for value in ["-1", "1h", "1.5", "99999999999"] {
        let error = Setup::daemon(&format!("replay_minutes = {value}")).error();
        assert!(
            error.contains("replay_minutes") && error.contains("whole number"),
            "{error}"
        );
    }
}

#[test]
fn notify_is_all_or_severity() {
    for (text, kinds) in [
        ("all", Kinds::All),
        ("\"severity\"", Kinds::Severity),
        ("", Kinds::All),
    ] {
        let daemon = Setup::daemon(&format!("notify = {text}")).config().daemon;
        assert_eq!(daemon.tuning.notify, kinds, "{text}");
    }
    for value in ["none", "All", "severities", "all, severity", "1"] {
        let error = Setup::daemon(&format!("port = 1\nnotify = {value}")).error();
        let expected = "DIR/modules/notifications/config.ini, line 3, [daemon] notify: give all (";
        assert!(
            error.starts_with(expected) && error.contains(" or severity ("),
            "{value}: {error}"
        );
    }
}

#[test]
fn a_session_is_kept_for_1_to_365_days() {
    for (text, days) in [("1", 1), ("\"30\"", 30), ("365", 365), ("", 7)] {
        let daemon = Setup::daemon(&format!("session_days = {text}"))
            .config()
            .daemon;
        assert_eq!(daemon.tuning.session_days, days, "{text}");
    }
    for value in ["0", "366", "-1", "7d", "1.5", "99999999999"] {
        let error = Setup::daemon(&format!("port = 1\nsession_days = {value}")).error();
        let expected = "DIR/modules/notifications/config.ini, line 3, [daemon] session_days: give a whole number of days from 1 to 365";
        assert_eq!(error, expected, "{value}");
    }
}

#[test]
fn the_admin_address_has_a_port_or_is_a_socket_and_defaults_to_none() {
    for keys in ["", "admin =", "admin = \"\""] {
        assert_eq!(Setup::daemon(keys).config().daemon.admin, None, "{keys}");
    }
    for address in [
        "127.0.0.1:9002",
        "127.8.9.1:1",
        "[::1]:0",
        "[::ffff:127.0.0.1]:9002",
        "/run/icinga-notifications-web/admin.sock",
    ] {
        let Loaded { config, warnings } =
            Setup::daemon(&format!("admin = {address}")).load().unwrap();
        assert_eq!(config.daemon.admin, Some(address.parse().unwrap()));
        assert_eq!(warnings, [""; 0], "{address}");
    }
    for value in [
        "9002",
        "127.0.0.1",
        "localhost:9002",
        "127.0.0.1:70000",
        "::1:9002",
        "run/admin",
        "yes please",
    ] {
        let error = Setup::daemon(&format!("admin = {value}")).error();
        let expected = "DIR/modules/notifications/config.ini, line 2, [daemon] admin: give an IP address and a port";
        assert!(error.starts_with(expected), "{value}: {error}");
    }
}

#[test]
fn an_admin_address_that_other_machines_reach_is_warned_about() {
    for address in [
        "0.0.0.0:9002",
        "[::]:9002",
        "192.0.2.1:9002",
        "[2001:db8::1]:9002",
    ] {
        let loaded = Setup::daemon(&format!("admin = {address}")).load().unwrap();
        assert_eq!(loaded.config.daemon.admin, Some(address.parse().unwrap()));
        let [warning] = loaded.warnings.as_slice() else {
            panic!("{address}: {:?}", loaded.warnings);
        };
        for part in [
            "config.ini, line 2, [daemon] admin: ",
            address,
            "127.0.0.1:9002",
        ] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }
}

#[test]
fn the_unspecified_ipv6_address_means_ipv4_too() {
    for value in ["[::]", "::", "0::0", "[::] ; comment"] {
        assert_eq!(host(value), Host::Any, "{value}");
    }
}

#[test]
fn addresses_names_and_sockets_are_distinguished() {
    let address = |text: &str| Host::Address(text.parse::<IpAddr>().unwrap());
    assert_eq!(host("[::1]"), address("::1"));
    assert_eq!(host("2001:db8::1"), address("2001:db8::1"));
    assert_eq!(host("0.0.0.0"), address("0.0.0.0"));
    assert_eq!(host("localhost"), Host::Name("localhost".to_owned()));
    assert_eq!(
        host("icinga-1.example.org."),
        Host::Name("icinga-1.example.org.".to_owned())
    );
    assert_eq!(
        host("/run/bridge/http.sock"),
        Host::Socket("/run/bridge/http.sock".into())
    );
}

#[test]
fn an_invalid_host_is_reported_with_its_line() {
    let bad = [
        "two words",
        "run/sock",
        "[127.0.0.1]",
        "[::1",
        "a..b",
        "-a",
        "300.1.1.1",
        "h:9001",
        "@x",
        "*",
    ];
    for value in bad {
        let error = Setup::daemon(&format!("port = 1\nhost = {value}")).error();
        let place = "DIR/modules/notifications/config.ini, line 3, [daemon] host: ";
        assert!(error.starts_with(place), "{value}: {error}");
    }
}

#[test]
fn ports_are_numbers_from_0_to_65535() {
    for (text, port) in [("0", 0), ("\"65535\"", 65535), ("05", 5)] {
        assert_eq!(listen(&format!("port = {text}"))[0].port, port);
    }
    for text in ["65536", "-1", "+1", "http", "90 01", "9001.0"] {
        let error = Setup::daemon(&format!("port = {text}")).error();
        assert!(
            error.contains("line 2, [daemon] port: give a port"),
            "{error}"
        );
    }
}

#[test]
fn unknown_keys_are_warned_about_by_file_line_and_name() {
    let setup = Setup::daemon("host = ::1\nprot = 9002\nHost = ::2\nbare\n[other]\nx = 1");
    let warnings = setup.load().unwrap().warnings;
    let file = setup.dir.path().join("modules/notifications/config.ini");
    let warning = |line, key| {
        format!(
            "{}, line {line}: unknown key {key} in [daemon] is ignored",
            file.display()
        )
    };
    assert_eq!(
        warnings,
        [warning(3, "prot"), warning(4, "Host"), warning(5, "bare")]
    );
}
