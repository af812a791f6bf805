//! The command line: what `check` finds, how errors of the configuration read, and the exit codes.

use std::process::Output;

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
fn check_is_content_with_a_complete_installation() {
    let (database, role) = installed(Cluster::shared(), "content", Shape::V1_0);
    let output = ConfigDir::new("", &resource(&database, &role))
        .command(&["check"])
        .output()
        .unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    for (line, begin) in lines.iter().zip([
        "ok    configuration: ",
        "ok    connection: ",
        "ok    server: ",
        "ok    LISTEN/NOTIFY: ",
        "ok    triggers: all 8 present and on, version 2, on schema \"public\"",
        "ok    rights: ",
        "ok    bridges: none is running on this database",
    ]) {
        assert!(line.starts_with(begin), "{line}");
    }
    assert_eq!(lines.len(), 7, "{text}");
}

#[test]
fn check_and_run_say_what_is_missing_in_the_database() {
    let cluster = Cluster::shared();
    let (database, role) = installed(cluster, "missing", Shape::V1_0);
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let expect = |sql: &str, problem: &str| {
        database.psql().command(sql).success();
        let output = config.command(&["check"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{sql}");
        let text = stdout(&output);
        assert!(
            text.contains("FAIL") && text.contains(problem),
            "{sql}: {text}"
        );
        let output = config.command(&["run"]).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{sql}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(problem),
            "{sql}: {}",
            stderr(&output)
        );
    };
    expect(
        &format!("REVOKE SELECT ON incident_history FROM \"{role}\""),
        "permission denied for table incident_history",
    );
    expect(
        &format!("REVOKE ALL ON SCHEMA icinga_desktop FROM \"{role}\""),
        "sql/grants.sql",
    );
    database
        .psql()
        .variable("role", &role)
        .file("sql/grants.sql")
        .success();
    expect(
        "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_notified",
        "missing or disabled: icinga_desktop_notified on incident_history; run again: psql",
    );
    expect(
        "DROP TRIGGER icinga_desktop_session_delete ON browser_session",
        "icinga_desktop_session_delete on browser_session",
    );
    database.psql().file("sql/install.sql").success();
    let newer = "CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer \
                 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 99'";
    expect(
        newer,
        "the triggers are version 99, this daemon needs 2; upgrade this daemon",
    );
    expect(
        &newer.replace("99", "0"),
        "run: psql -v ON_ERROR_STOP=1 -f /usr/share/icinga-desktop-bridge/sql/install.sql DATABASE",
    );
    database.psql().file("sql/install.sql").success();
    database.psql().file("sql/uninstall.sql").success();
    let output = config.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("not installed"),
        "{}",
        stderr(&output)
    );
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
fn the_directory_comes_from_the_flag_or_the_environment() {
    let config = ConfigDir::new("port = 1234", "");
    let output = config.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_icinga-desktop-bridge"))
        .args(["check", "--config-only"])
        .env_clear()
        .env("ICINGAWEB_CONFIGDIR", config.path())
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("daemon.port = 1234"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_and_version_are_there_and_wrong_usage_is_2() {
    let config = ConfigDir::new("", "");
    let output = config.command(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "run",
        "check",
        "send-test",
        "--config-dir",
        "--verbose",
        "--debug",
        "78",
    ] {
        assert!(stdout(&output).contains(word), "{word}");
    }
    let output = config.command(&["--version"]).output().unwrap();
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
    for arguments in [&["--nonsense"][..], &["nonsense"], &["run", "nonsense"]] {
        let output = config.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn debug_logging_shows_no_session_id() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = crate::common::world::World::new("debug").await;
        let alice = world.user("alice").await;
        let config = ConfigDir::new(
            "host = 127.0.0.1\nport = 0",
            &resource(&world.database, &world.role),
        );
        let daemon = crate::common::daemon::Daemon::launch_with(config, &["run", "--debug"]);
        daemon.wait_for_log("ready: ");
        let answer =
            crate::common::sse::Answer::subscribe(&daemon.address, &alice.session_id).await;
        assert_eq!(answer.status, 200);
        let log = daemon.log();
        assert!(
            log.contains("executing"),
            "the library logs its parameters: {log}"
        );
        assert!(!log.contains(&alice.session_id), "{log}");
        assert!(!log.contains(crate::common::sse::AGENT), "{log}");
    });
}
