//! How long a look at the table takes PostgreSQL, by the number of rows above the floor: while an unrelated transaction is open,
//! ids that were drawn and are not visible may still be committed.
//!
//! PostgreSQL logs how long each statement of the daemon took.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database, Session};
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd;
use crate::shared::figures::{self, Sorted, milliseconds};
use crate::shared::record::{record, rounded};

/// Notified rows above the floor, and whether each tenth id is missing, as if its transaction had been rolled back.
const WINDOWS: [(usize, bool); 6] = [
    (0, false),
    (1_000, false),
    (10_000, false),
    (100_000, false),
    (10_000, true),
    (100_000, true),
];

/// The recipients of each incident.
const CONTACTS: usize = 100;

/// Until everything was read, and the daemon knows which transactions to wait for.
const SETTLE: Duration = Duration::from_secs(4);

/// Commits while the floor is held, each with one or more looks.
const COMMITS: usize = 100;

const PAUSE: Duration = Duration::from_millis(20);

/// The start of a look's first statement.
const FIRST: &str = "SELECT pg_current_snapshot()";

/// The start of its other statements.
const OTHERS: &str = "SELECT f.id, ";

pub(crate) async fn run() {
    for (rows, with_gaps) in WINDOWS {
        window(Cluster::shared(), rows, with_gaps).await;
    }
}

async fn window(cluster: &Cluster, rows: usize, with_gaps: bool) {
    let (database, role) = installed(cluster, "look", Shape::V1_0);
    crowd::populate(&database, CONTACTS);
    let session = database.connect().await;
    session
        .run(&format!(
            "ALTER ROLE \"{role}\" SET log_min_duration_statement = 0"
        ))
        .await;
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let daemon = shared::daemon(&database, &role);
    let unrelated = database.connect().await;
    unrelated.run("BEGIN; SELECT pg_current_xact_id()").await;
    // Drawn, and never committed.
    session
        .run("SELECT nextval('incident_history_id_seq')")
        .await;
    let incident = icinga.incident("db1!disk", "crit").await;
    fill(&session, rows, with_gaps).await;
    thread::sleep(SETTLE);

    let (before, cpu) = (log(&database).len(), figures::cpu(daemon.pid()));
    for _ in 0..COMMITS {
        let event = Event {
            incident: Some(incident),
            notified: &[(1, 1, "pending")],
            ..Event::default()
        };
        icinga.event(event).await;
        thread::sleep(PAUSE);
    }
    let held = looks(&log(&database)[before..]);
    let cpu = milliseconds(figures::cpu(daemon.pid()) - cpu) / held.len() as f64;
    let before = log(&database).len();
    unrelated.run("COMMIT").await;
    icinga.incident("db1!disk", "crit").await;
    thread::sleep(SETTLE);
    let ended = looks(&log(&database)[before..]);

    let missing = if with_gaps {
        ", each tenth missing"
    } else {
        ""
    };
    let (count, held, ended) = (held.len(), Sorted::new(held), Sorted::new(ended));
    println!(
        "{rows} rows above the floor{missing}: a look takes PostgreSQL {:.2} ms, p99 {:.2} ms, at most {:.2} ms ({count} looks; \
         target: at most 5); the daemon {cpu:.2} ms of processor time, on average; once the transaction has ended, at most \
         {:.2} ms",
        held.median(),
        held.percentile(99),
        held.max(),
        ended.max(),
    );
    record(
        "look",
        json!({
            "rows": rows, "gaps": with_gaps, "postgresql_ms": rounded(held.values()), "daemon_cpu_ms": cpu,
            "after_the_end_ms": rounded(ended.values()),
        }),
    );
}

/// Writes rows in transactions of 1000: ten incidents, each notified to every contact.
async fn fill(session: &Session, rows: usize, with_gaps: bool) {
    const BATCH: usize = 10 * CONTACTS;
    for _ in 0..rows / BATCH {
        session
            .run(&format!(
                "BEGIN;
                 WITH opened AS (
                   INSERT INTO incident (object_id, started_at, severity)
                   SELECT (SELECT id FROM object LIMIT 1), 0, 'crit' FROM generate_series(1, {BATCH} / {CONTACTS})
                   RETURNING id
                 )
                 INSERT INTO incident_history
                     (incident_id, contact_id, channel_id, time, message, type, notification_state)
                   SELECT id, n, 1, (extract(epoch FROM now()) * 1000)::bigint, 'DISK CRITICAL', 'notified', 'pending'
                   FROM opened, generate_series(1, {CONTACTS}) AS n;
                 DELETE FROM incident_history
                   WHERE {with_gaps} AND id % 10 = 0 AND id > (SELECT max(id) FROM incident_history) - {BATCH};
                 COMMIT"
            ))
            .await;
    }
}

fn log(database: &Database) -> String {
    fs::read_to_string(database.socket_directory().join("log")).expect("the server logs")
}

/// Milliseconds of each look in the log lines.
fn looks(log: &str) -> Vec<f64> {
    let mut looks: Vec<f64> = Vec::new();
    for line in log.lines() {
        let Some((time, statement)) = timed(line) else {
            continue;
        };
        let is_first = statement.starts_with(FIRST);
        if is_first && line.contains(" ms  bind ") {
            looks.push(time);
        } else if (is_first || statement.starts_with(OTHERS))
            && let Some(look) = looks.last_mut()
        {
            *look += time;
        }
    }
    looks
}

/// How long a step of a prepared statement took, and the statement.
fn timed(line: &str) -> Option<(f64, &str)> {
    let (_, behind) = line.split_once("LOG:  duration: ")?;
    let (time, behind) = behind.split_once(" ms  ")?;
    let (_, statement) = behind.split_once(": ")?;
    Some((time.parse().ok()?, statement))
}
