//! `check`: what it finds in the database and about the bridges that run on it.

use crate::common::command::{Said, run};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::{AGENT, Answer, OTHER_AGENT};
use crate::common::world::{World, installed, resource};

use super::send_test::assert_no_question_is_left;

#[test]
fn check_is_content_with_a_complete_installation() {
    let (database, role) = installed(Cluster::shared(), "content", Shape::V1_0);
    let config = ConfigDir::new("", &resource(&database, &role));
    let said = Said::with(&config, &["check"]);
    assert_eq!(said.code, Some(0), "{said}");
    let lines: Vec<_> = said.stdout.lines().collect();
    for (line, begin) in lines.iter().zip([
        "ok    configuration: ",
        "ok    connection: ",
        "ok    server: ",
        "ok    LISTEN/NOTIFY: ",
        "ok    triggers: all 8 present and enabled, version 3, on schema \"public\"",
        "ok    rights: ",
        "ok    messages: in the notifications",
        "ok    ids: epoch ",
        "ok    bridges: no bridge is running on this database",
    ]) {
        assert!(line.starts_with(begin), "{line}");
    }
    assert_eq!(lines.len(), 9, "{said}");
}

/// An installed database, and the configuration of a daemon on it.
struct Installed {
    database: Database,
    role: String,
    config: ConfigDir,
}

impl Installed {
    fn new(hint: &str) -> Self {
        let (database, role) = installed(Cluster::shared(), hint, Shape::V1_0);
        let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
        Self {
            database,
            role,
            config,
        }
    }

    /// After these statements, both `check` and `run` fail and name the problem.
    fn fails_after(&self, sql: &str, problem: &str) {
        self.database.psql().command(sql).success();
        let said = Said::with(&self.config, &["check"]);
        assert_eq!(said.code, Some(1), "{sql}");
        for part in ["FAIL", problem] {
            assert!(said.stdout.contains(part), "{sql}: {said}");
        }
        let said = Said::with(&self.config, &["run"]);
        assert_eq!(said.code, Some(78), "{sql}: {said}");
        assert!(said.stderr.contains(problem), "{sql}: {said}");
    }
}

#[test]
fn check_and_run_name_a_right_that_is_missing() {
    let installed = Installed::new("rights");
    let role = &installed.role;
    installed.fails_after(
        &format!("REVOKE SELECT ON incident_history FROM \"{role}\""),
        "permission denied for table incident_history",
    );
    installed.fails_after(
        &format!("REVOKE ALL ON SCHEMA icinga_desktop FROM \"{role}\""),
        "sql/grants.sql",
    );
}

#[test]
fn check_names_what_the_role_may_not_write() {
    let installed = Installed::new("writes");
    let role = &installed.role;
    let psql = installed.database.psql();
    psql.command(&format!(
        "REVOKE DELETE, UPDATE (authenticated_at) ON browser_session FROM \"{role}\";
         REVOKE INSERT ON icinga_desktop.browser_position FROM \"{role}\""
    ))
    .success();
    let said = Said::with(&installed.config, &["check"]);
    assert_eq!(said.code, Some(1), "{said}");
    let line = "rights: missing: UPDATE (authenticated_at) on browser_session, DELETE on browser_session, \
                INSERT on icinga_desktop.browser_position; as the owner of the tables, run: psql";
    assert!(said.stdout.contains(line), "{said}");
}

#[test]
fn check_and_run_name_triggers_that_are_missing_or_disabled() {
    let installed = Installed::new("triggers");
    installed.fails_after(
        "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_bell",
        "missing or disabled: icinga_desktop_bell on incident_history; run again: psql",
    );
    installed.fails_after(
        "DROP TRIGGER icinga_desktop_session_delete ON browser_session",
        "icinga_desktop_session_delete on browser_session",
    );
}

#[test]
fn check_and_run_say_which_of_two_versions_to_upgrade() {
    let installed = Installed::new("versions");
    let newer = "CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer \
                 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 99'";
    installed.fails_after(
        newer,
        "the triggers are version 99, this daemon needs 3; upgrade this daemon",
    );
    installed.fails_after(
        &newer.replace("99", "0"),
        "run: psql -v ON_ERROR_STOP=1 -f /usr/share/icinga-desktop-bridge/sql/install.sql DATABASE",
    );
}

#[test]
fn run_says_that_nothing_is_installed() {
    let installed = Installed::new("uninstalled");
    let psql = installed.database.psql();
    psql.file("sql/uninstall.sql").success();
    let said = Said::with(&installed.config, &["run"]);
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("not installed"), "{said}");
}

#[tokio::test]
async fn bridges_are_counted_with_their_browsers_and_a_browser_on_two_of_them_is_a_failure() {
    let world = World::new("bridges").await;
    let alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    world.icinga.contact("bob").await;
    let bob = world.icinga.sign_in("bob", AGENT).await;
    let _bob = Answer::open(&second.address, &bob, AGENT).await;
    let other = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let _other = Answer::open(&second.address, &other, OTHER_AGENT).await;
    let (exit, text) = world.run(&["check"]).await;
    assert_eq!(exit, Some(0), "{text}");
    let expected =
        "ok    bridges: 2 bridges serve this database, with 3 browsers, each on one of them";
    assert!(text.contains(expected), "{text}");

    let _astray = Answer::open(&second.address, &alice.session_id, AGENT).await;
    let (exit, text) = world.run(&["check"]).await;
    assert_eq!(exit, Some(1), "{text}");
    for part in [
        "FAIL  bridges: 2 bridges serve this database, and 1 browsers have streams on more than one",
        "hash $cookie_Icingaweb2 consistent",
        "packaging/",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn every_role_sees_how_many_bridges_there_are() {
    // So they may run as different users.
    let world = World::new("roles").await;
    let _second = Daemon::start(&resource(&world.database, &world.role));
    let other_role = world.database.role("other");
    let session = world.database.connect_as(&other_role).await;
    let listening = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'icinga-desktop-bridge listener'";
    assert_eq!(session.text(listening).await, "2");
}

#[tokio::test]
async fn a_bridge_that_does_not_answer_is_a_failure() {
    let world = World::new("hanging").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    second.signal("STOP");
    let (exit, text) = world.run(&["check"]).await;
    assert_eq!(exit, Some(1), "{text}");
    let expected = "FAIL  bridges: 1 of 2 bridges that listen on this database answered";
    assert!(text.contains(expected), "{text}");
    second.signal("CONT");
    assert_no_question_is_left(&world.database).await;
}

#[test]
fn without_the_right_to_ask_bridges_each_command_names_what_grants_it() {
    let installed = Installed::new("not_asked");
    let revoke = format!(
        "REVOKE INSERT ON icinga_desktop.browser_position FROM \"{}\"",
        installed.role
    );
    installed.database.psql().command(&revoke).success();
    let icinga = "INSERT INTO contact (full_name, username, default_channel_id, changed_at) VALUES ('', 'alice', 1, 0)";
    installed.database.psql().command(icinga).success();
    for arguments in [
        &["send-test", "alice"][..],
        &["check"],
        &["explain", "alice"],
    ] {
        let (exit, text) = run(&installed.config, arguments);
        assert_eq!(exit, Some(1), "{text}");
        for part in [
            "no right to write icinga_desktop.browser_position",
            "sql/grants.sql",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
