//! The effective settings, as `check --config-only` prints them.

use super::*;

fn shown(config: &Config) -> Vec<String> {
    let settings = config.settings();
    settings
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect()
}

#[test]
fn the_effective_settings_are_listed_without_the_password() {
    let keys = "host = \"db1,db2\"\nport = \"5433,5434\"\ndbname = n\nusername = u\npassword = hunter2\nuse_ssl = 1";
    let config = Setup::resource(keys).config();
    let expected = [
        "daemon.host = [::],127.0.0.1",
        "daemon.port = 9001,5664",
        "daemon.keep_alive_seconds = 15",
        "daemon.replay_minutes = 60",
        "daemon.replay_incidents = 5",
        "daemon.notify = all",
        "daemon.session_days = 7",
        "daemon.admin = ",
        "database.resource = notifications",
        "database.host = db1,db2",
        "database.hostaddr = ",
        "database.port = 5433,5434",
        "database.dbname = n",
        "database.username = u",
        "database.password = ***",
        "database.sslmode = verify-full",
        "database.sslrootcert = system",
        "database.sslcert = ",
        "database.sslkey = ",
        "database.connect_timeout = 10",
        "database.options = ",
    ];
    assert_eq!(shown(&config), expected);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn one_port_for_all_hosts_is_shown_once_and_no_password_as_nothing() {
    let shown = shown(&Setup::resource("host = a,b").config());
    assert!(
        shown.contains(&"database.port = 5432".to_owned()),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"database.password = ".to_owned()),
        "{shown:?}"
    );
}

#[test]
fn lists_are_shown_whole_if_the_hosts_differ_in_anything() {
    let shown = shown(&Setup::resource("host = a,a,a\nport = 1,1,2").config());
    assert!(
        shown.contains(&"database.host = a,a,a".to_owned()),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"database.port = 1,1,2".to_owned()),
        "{shown:?}"
    );
}

#[test]
fn hosts_to_listen_on_are_shown_as_they_are_written() {
    for host in ["[::]", "[::1]", "127.0.0.1", "localhost", "/run/x.sock"] {
        let config = Setup::daemon(&format!("host = {host}")).config();
        assert_eq!(shown(&config)[0], format!("daemon.host = {host}"));
    }
}

#[test]
fn keys_of_the_daemon_are_shown_as_they_are_written() {
    for setting in [
        "daemon.notify = severity",
        "daemon.session_days = 30",
        "daemon.replay_incidents = 20",
        "daemon.keep_alive_seconds = 25",
    ] {
        let key = setting.strip_prefix("daemon.").unwrap();
        let shown = shown(&Setup::daemon(key).config());
        assert!(shown.contains(&setting.to_owned()), "{setting}: {shown:?}");
    }
}
