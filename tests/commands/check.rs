//! `check`: what it finds in the database.

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
