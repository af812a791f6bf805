//! Icinga's schema changes under the triggers: its writes succeed, and so do scripts that upgrade it.

use tokio_postgres::error::SqlState;

use crate::common::icinga::Shape;

use super::support::{bell, bystander, notified_row, ours, severity};

/// A renamed column, what Icinga then writes, and which warnings that causes: none if the trigger reads another column.
struct Rename {
    rename: &'static str,
    write: &'static str,
    warnings: &'static [&'static str],
}

const RENAMES: [Rename; 5] = [
    Rename {
        rename: "ALTER TABLE incident_history RENAME COLUMN contact_id TO person_id",
        write: "INSERT INTO incident_history (incident_id, person_id, time, type) \
                SELECT incident.id, contact.id, 0, 'notified' FROM incident, contact",
        warnings: &[],
    },
    Rename {
        rename: "ALTER TABLE incident RENAME COLUMN severity TO gravity",
        write: "UPDATE incident SET gravity = 'emerg'",
        warnings: &[],
    },
    Rename {
        rename: "ALTER TABLE incident RENAME COLUMN id TO incident_id",
        write: "UPDATE incident SET severity = 'emerg'",
        warnings: &[
            r#"icinga_desktop: an incident's new severity is not announced: record "new" has no field "id" (SQLSTATE 42703); the transaction goes on"#,
        ],
    },
    Rename {
        rename: "ALTER TABLE contact RENAME COLUMN id TO contact_id",
        write: "UPDATE contact SET username = 'anne'",
        warnings: &[
            r#"icinga_desktop: a change of a contact is not announced: record "old" has no field "id" (SQLSTATE 42703); the transaction goes on"#,
        ],
    },
    Rename {
        rename: "ALTER TABLE browser_session RENAME COLUMN php_session_id TO session_id",
        write: "UPDATE browser_session SET user_agent = 'Chromium'; DELETE FROM browser_session",
        warnings: &[
            r#"icinga_desktop: a sign-out is not announced: record "old" has no field "php_session_id" (SQLSTATE 42703); the transaction goes on"#,
            r#"icinga_desktop: a sign-out is not announced: record "old" has no field "php_session_id" (SQLSTATE 42703); the transaction goes on"#,
        ],
    },
];

#[tokio::test]
async fn a_renamed_column_fails_no_write() {
    for case in RENAMES {
        let (database, mut icinga, _listener) = bystander(Shape::V1_0, "renamed").await;
        let anna = icinga.contact("anna").await;
        let incident = icinga.incident("db1!disk", "ok").await;
        // The triggers' functions of this session know the old name.
        icinga
            .by_hand(&format!(
                "{}; UPDATE incident SET severity = 'crit'; UPDATE contact SET username = 'berta';
                 INSERT INTO browser_session VALUES ('abc', 'x', 'Firefox', 0), ('def', 'y', 'Firefox', 0);
                 DELETE FROM browser_session WHERE username = 'y'",
                notified_row(incident, anna)
            ))
            .await;
        assert_eq!(icinga.session().warnings(), [""; 0]);

        database.connect().await.run(case.rename).await;
        let mut fresh = database.connect().await;
        fresh
            .run(&format!(
                "BEGIN; {}; SET CONSTRAINTS ALL IMMEDIATE",
                case.write
            ))
            .await;
        assert_eq!(fresh.warnings(), case.warnings, "{}", case.rename);
        fresh.run("ROLLBACK").await;
        icinga.by_hand(case.write).await;
        assert_eq!(
            icinga.session().warnings(),
            case.warnings,
            "{}",
            case.rename
        );
    }
}

#[tokio::test]
async fn a_renamed_column_that_no_function_reads_is_announced_as_before() {
    let (_database, icinga, mut listener) = bystander(Shape::V1_0, "as_before").await;
    icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    let [history, severity_of_incident, ..] = RENAMES;
    icinga.by_hand(history.rename).await;
    icinga.by_hand(history.write).await;
    assert_eq!(listener.heard().await, [bell()]);
    icinga.by_hand(severity_of_incident.rename).await;
    icinga.by_hand(severity_of_incident.write).await;
    assert_eq!(listener.heard().await, [severity(incident)]);
}

#[tokio::test]
async fn after_a_row_a_change_of_its_table_needs_the_triggers_to_have_run() {
    let (_database, mut icinga, mut listener) = bystander(Shape::V1_0, "pending").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "ok").await;
    listener.heard().await;
    let row = notified_row(incident, anna);
    let update = "UPDATE incident SET severity = 'crit'".to_owned();
    let new =
        "INSERT INTO incident (object_id, started_at, severity) SELECT id, 0, 'crit' FROM object"
            .to_owned();
    for (write, change, announced) in [
        (
            &row,
            "ALTER TABLE incident_history ADD COLUMN a int",
            bell(),
        ),
        (&row, "TRUNCATE incident_history", bell()),
        (
            &update,
            "ALTER TABLE incident ADD COLUMN a int",
            severity(incident),
        ),
        (&new, "ALTER TABLE incident ADD COLUMN b int", bell()),
    ] {
        let error = icinga
            .session()
            .batch_execute(&format!("BEGIN; {write}; {change}"))
            .await
            .expect_err("pending trigger events");
        assert_eq!(
            error.code(),
            Some(&SqlState::OBJECT_IN_USE),
            "{change}: {error:?}"
        );
        icinga.by_hand("ROLLBACK").await;
        assert_eq!(listener.heard().await, [], "{change}");

        icinga
            .by_hand(&format!(
                "BEGIN; {write}; SET CONSTRAINTS ALL IMMEDIATE; {change}; COMMIT"
            ))
            .await;
        let heard = listener.heard().await;
        assert_eq!(heard[0], announced, "{change}");
    }
}

/// What scripts that upgrade Icinga's schema do to the tables with triggers, each in a separate transaction.
const UPGRADES: [&str; 6] = [
    "ALTER TABLE incident ADD COLUMN mute_reason text;
     UPDATE incident SET mute_reason = object.mute_reason FROM object WHERE object.id = object_id;
     ALTER TABLE object DROP COLUMN mute_reason",
    "ALTER TABLE incident ADD COLUMN message text, ADD COLUMN next_escalation_check_at bigint;
     CREATE INDEX idx_incident_next ON incident (next_escalation_check_at)",
    "ALTER TYPE history_type ADD VALUE 'flapping';
     ALTER TYPE severity RENAME VALUE 'err' TO 'error';
     ALTER TABLE incident_history RENAME COLUMN message TO text",
    "ALTER TABLE contact ADD COLUMN external_uuid text;
     UPDATE contact SET external_uuid = md5(id::text);
     ALTER TABLE contact ALTER COLUMN external_uuid SET NOT NULL",
    "UPDATE contact SET username = NULL, deleted = 'y'; UPDATE incident SET severity = 'alert';
     ALTER TABLE object ADD COLUMN muted_at bigint; DELETE FROM browser_session",
    "TRUNCATE object RESTART IDENTITY CASCADE;
     ALTER TABLE object DROP COLUMN source_id, ADD COLUMN id_tag text NOT NULL;
     ALTER TABLE incident_history ALTER COLUMN time SET DEFAULT 0",
];

#[tokio::test]
async fn scripts_that_upgrade_icingas_schema_pass_with_the_triggers_in_place() {
    let (database, mut icinga, mut listener) = bystander(Shape::V0_2, "upgrades").await;
    let anna = icinga.contact("anna").await;
    let incident = icinga.incident("db1!disk", "crit").await;
    icinga.mute(incident, Some("downtime")).await;
    icinga.by_hand(&notified_row(incident, anna)).await;
    icinga.sign_in("anna", "Firefox").await;
    let session = database.connect().await;
    let before = ours(&session).await;
    for script in UPGRADES {
        icinga.by_hand(&format!("BEGIN; {script}; COMMIT")).await;
        assert_eq!(icinga.session().warnings(), [""; 0], "{script}");
    }
    listener.heard().await;
    assert_eq!(ours(&session).await, before);

    // The session that went through all this still rings.
    icinga
        .by_hand(
            "INSERT INTO object (id, name, id_tag) VALUES (sha256('x'), 'x', 'x');
             INSERT INTO incident (object_id, started_at, severity) SELECT id, 0, 'error' FROM object;
             INSERT INTO incident_history (incident_id, contact_id, type) SELECT incident.id, contact.id, 'notified' \
               FROM incident, contact",
        )
        .await;
    assert!(listener.heard().await.contains(&bell()));
    assert_eq!(icinga.session().warnings(), [""; 0]);
}
