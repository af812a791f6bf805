//! The indexes that `install.sql` builds: without a lock, again if they are invalid, and useful.

use std::sync::Arc;

use icinga_desktop_bridge::database::Session;
use icinga_desktop_bridge::model::browser::BrowserKey;

use crate::common::icinga::{Event, Icinga, Shape};

use super::support::{INSTALL, installed, ours};

#[tokio::test]
async fn an_index_that_an_interrupted_run_left_invalid_is_rebuilt() {
    let database = installed(Shape::V1_0, "invalid");
    let session = database.connect().await;
    let before = ours(&session).await;
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let incident = icinga.incident("db1!disk", "crit").await;
    icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (incident_id, time, type) VALUES ({incident}, 0, 'muted'), ({incident}, 0, 'muted')"
        ))
        .await;
    for name in ["anna", "bert"] {
        icinga.sign_in(name, "Firefox").await;
    }
    for (index, duplicates, definition) in [
        (
            "idx_icinga_desktop_notified",
            "incident_history (type)",
            "CREATE INDEX idx_icinga_desktop_notified ON public.incident_history USING btree (contact_id, id) \
             WHERE (type = 'notified'::history_type)",
        ),
        (
            "idx_icinga_desktop_session",
            "browser_session (user_agent)",
            "CREATE INDEX idx_icinga_desktop_session ON public.browser_session USING hash (username)",
        ),
    ] {
        session.run(&format!("DROP INDEX {index}")).await;
        // What the server leaves behind when building concurrently fails, here because of duplicates.
        let message = session
            .refusal(&format!(
                "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {duplicates}"
            ))
            .await;
        assert!(
            message.contains("could not create unique index"),
            "{message}"
        );
        assert_eq!(ours(&session).await.matches("valid f").count(), 1);

        let output = database.psql().file(INSTALL).success();
        assert_eq!(output.stderr, "");
        let rebuilt = session
            .text(&format!("SELECT pg_get_indexdef('{index}'::regclass)"))
            .await;
        assert_eq!(rebuilt, definition);
    }
    let after = ours(&session).await;
    assert_eq!(after.matches("valid t").count(), 2, "{after}");
    // Only the indexes are different.
    assert_eq!(
        after.lines().filter(|line| before.contains(line)).count(),
        8,
        "{before}\n\n{after}"
    );
}

#[tokio::test]
async fn indexes_that_another_run_is_building_are_left_to_it() {
    let database = installed(Shape::V1_0, "building");
    let other = database.connect().await;
    other
        .run("DROP INDEX idx_icinga_desktop_notified, idx_icinga_desktop_session")
        .await;
    other
        .run("SELECT pg_advisory_lock(hashtextextended('icinga_desktop.index', 0))")
        .await;
    let output = database.psql().file(INSTALL).success();
    assert!(
        output.stdout.contains("another run is just building them"),
        "{}",
        output.stdout
    );
    assert!(!ours(&other).await.contains("valid"));
}

#[tokio::test]
async fn writers_go_on_while_an_index_is_being_built() {
    let database = Arc::new(installed(Shape::V1_0, "go_on"));
    let session = database.connect().await;
    let mut writer = Icinga::new(database.connect().await, Shape::V1_0);
    let anna = writer.contact("anna").await;
    writer.session().run("SET lock_timeout = '1s'").await;
    for (index, table) in [
        ("idx_icinga_desktop_notified", "incident_history"),
        ("idx_icinga_desktop_session", "browser_session"),
    ] {
        session.run(&format!("DROP INDEX {index}")).await;
        // Building waits for it, as for every transaction that has written and has not ended.
        let long = database.connect().await;
        long.run(&format!("BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))
            .await;
        let installing = Arc::clone(&database);
        let run = tokio::task::spawn_blocking(move || installing.psql().file(INSTALL).success());
        let builds = format!(
            "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE 'CREATE INDEX CONCURRENTLY {index} %' AND wait_event_type = 'Lock') = 1"
        );
        database.eventually(&builds).await;

        let browser = writer.sign_in("anna", "Firefox").await;
        let event = Event {
            object: "db1!disk",
            severity: Some("crit"),
            notified: &[(anna, 1, "pending")],
            ..Event::default()
        };
        writer.event(event).await;
        writer.sign_out(&browser).await;
        let still = session.text(&format!("SELECT ({builds})::text")).await;
        assert_eq!(still, "true", "it still waits");

        long.run("ROLLBACK").await;
        run.await.expect("the installation succeeds");
        let installed = ours(&session).await;
        assert_eq!(installed.matches("valid t").count(), 2, "{installed}");
    }
}

#[tokio::test]
async fn with_its_index_a_sign_in_reads_only_the_sessions_of_its_user() {
    const SESSIONS: i64 = 10_000;
    const SIGN_INS: i64 = 50;
    let database = installed(Shape::V1_0, "sign_in_index");
    let session = database.connect().await;
    session
        .run(&format!(
            "ALTER TABLE browser_session SET (autovacuum_enabled = off);
             BEGIN;
             -- Ten thousand announcements are not what this is about.
             SET LOCAL session_replication_role = replica;
             INSERT INTO browser_session SELECT lpad(n::text, 26, '0'), 'user' || n, 'Firefox', n
               FROM generate_series(1, {SESSIONS}) AS n;
             COMMIT; ANALYZE browser_session"
        ))
        .await;

    let mut before = database.rows_read("browser_session", 0).await;
    for indexed in [true, false] {
        if !indexed {
            session.run("DROP INDEX idx_icinga_desktop_session").await;
        }
        let client = database.try_connect().await.expect("the server runs");
        let daemon = Session::set_up(client, None).await.expect("prepared");
        for n in 1..=SIGN_INS {
            let id = format!("{n:026}");
            let row = daemon
                .browser_session(&id, "Firefox", &BrowserKey::new(&id))
                .await
                .expect("an answer")
                .expect("a session");
            assert!(row.agent_matches && row.newest, "{row:?}");
        }
        // Its counters are complete once it has ended.
        drop(daemon);
        if indexed {
            // The session by its id, and by its user.
            let after = database
                .rows_read("browser_session", before + 2 * SIGN_INS)
                .await;
            assert_eq!(after - before, 2 * SIGN_INS);
            before = after;
        } else {
            // The counters would show reading all newer rows of all contacts.
            database
                .rows_read("browser_session", before + SIGN_INS * SESSIONS / 2)
                .await;
        }
    }
}

/// Statistics from a time when the table was small must not cause a plan that reads all of it later.
#[tokio::test]
async fn a_sign_in_reads_one_position_whatever_the_statistics_say() {
    const SESSIONS: i64 = 5_000;
    const SIGN_INS: i64 = 50;
    let database = installed(Shape::V1_0, "sign_in_statistics");
    let session = database.connect().await;
    let analyze = "ANALYZE browser_session, icinga_desktop.browser_position";
    let sessions = format!(
        "INSERT INTO browser_session SELECT lpad(n::text, 26, '0'), 'user' || n, 'Firefox', n
           FROM generate_series(1, {SESSIONS}) AS n"
    );
    let positions = "INSERT INTO icinga_desktop.browser_position
        SELECT sha256(convert_to(php_session_id, 'UTF8')), 1, '{}', now() FROM browser_session";
    session
        .run(
            "ALTER TABLE browser_session SET (autovacuum_enabled = off);
             ALTER TABLE icinga_desktop.browser_position SET (autovacuum_enabled = off)",
        )
        .await;
    for stage in [
        "while both are empty",
        "while no position is stored",
        "while all are",
    ] {
        let client = database.try_connect().await.expect("the server runs");
        session.run(analyze).await;
        let daemon = Session::set_up(client, None).await.expect("prepared");
        match stage {
            "while both are empty" => {
                session.run(&format!("{sessions}; {positions}")).await;
            }
            "while no position is stored" => {
                // Not DELETE, whose own reads may be counted later.
                session
                    .run("TRUNCATE icinga_desktop.browser_position")
                    .await;
                session.run(analyze).await;
                session.run(positions).await;
            }
            _ => {}
        }
        let before = database.rows_read("browser_position", 0).await;
        for n in 1..=SIGN_INS {
            let id = format!("{n:026}");
            let key = BrowserKey::new(&id);
            let row = daemon.browser_session(&id, "Firefox", &key);
            assert!(row.await.expect("an answer").is_some());
        }
        drop(daemon);
        let after = database
            .rows_read("browser_position", before + SIGN_INS)
            .await;
        assert!(
            after - before < 10 * SIGN_INS,
            "{stage}: {}",
            after - before
        );
    }
}
