//! What the server reads for the daemon does not depend on the planner: whatever the statistics are, and whenever a plan was
//! made, no statement reads a whole growing table.
//!
//! The hourly housekeeping does, which compares all sessions with all positions, and so does `explain`, which runs once by hand.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::common::icinga::{Event, Shape};
use crate::common::postgres::Cluster;
use crate::common::wait::eventually;
use crate::common::world::{World, installed, resource};

/// Rows of each table that grows.
const ROWS: u64 = 20_000;

/// What a statement may read of one of them: the first page of history, or twice the rows of 1,000 ids that may not be settled yet.
const FEW: f64 = 2_000.0;

/// A part of the text of a look.
const LOOK: &str = "incident_history h WHERE h.id > $1";

/// A part of the text of each statement, which shows that it ran.
const STATEMENTS: [(&str, &str); 10] = [
    ("look", LOOK),
    ("new incidents", "FROM incident h WHERE h.id > $1"),
    (
        "recipients",
        "FROM incident_contact WHERE incident_id = wanted.id",
    ),
    ("sign-in", "s.php_session_id = $1"),
    ("start", "WHERE id > f.floor"),
    ("replay", "array_agg(h.id ORDER BY h.id DESC)"),
    (
        "changes behind a page",
        "h.old_severity::text\n                     FROM",
    ),
    ("newest", "FROM incident ORDER BY id DESC"),
    ("recheck", "WHERE id = ANY($1)"),
    ("positions", "INSERT INTO icinga_desktop.browser_position"),
];

/// How the statistics of the tables were made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statistics {
    Never,
    WhileEmpty,
    WhileFull,
    Bloated,
}

#[tokio::test]
async fn no_table_is_read_that_was_never_analysed() {
    nothing_is_read_through(Statistics::Never, Shape::V1_0).await;
}

#[tokio::test]
async fn no_table_is_read_that_was_analysed_while_it_was_empty() {
    nothing_is_read_through(Statistics::WhileEmpty, Shape::V0_2).await;
}

#[tokio::test]
async fn no_table_is_read_that_was_analysed() {
    nothing_is_read_through(Statistics::WhileFull, Shape::V1_0).await;
}

#[tokio::test]
async fn no_table_is_read_that_is_bloated_by_updates() {
    nothing_is_read_through(Statistics::Bloated, Shape::V0_1).await;
}

async fn nothing_is_read_through(statistics: Statistics, shape: Shape) {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "plans", shape);
    let settings = database.connect().await;
    for sql in [
        "ALTER SYSTEM SET autovacuum = off",
        "SELECT pg_reload_conf()",
        // It defines the settings.
        "LOAD 'auto_explain'",
        &format!("ALTER ROLE {role} SET session_preload_libraries = 'auto_explain'"),
        &format!("ALTER ROLE {role} SET auto_explain.log_min_duration = 0"),
        &format!("ALTER ROLE {role} SET auto_explain.log_analyze = on"),
        &format!("ALTER ROLE {role} SET auto_explain.log_timing = off"),
        &format!("ALTER ROLE {role} SET auto_explain.log_format = json"),
    ] {
        settings.run(sql).await;
    }
    let resource = resource(&database, &role);
    let mut world = World::reached_by(database, role, shape, &resource).await;
    if statistics == Statistics::WhileEmpty {
        world.icinga.by_hand("ANALYZE").await;
    }
    let log = world.database.socket_directory().join("log");
    // Plans that are made while there are hardly any rows.
    everything(&mut world, "before").await;
    let start = std::fs::read(&log).expect("the server's log").len();
    fill(&world).await;
    match statistics {
        Statistics::Never | Statistics::WhileEmpty => {}
        Statistics::WhileFull => world.icinga.by_hand("ANALYZE").await,
        Statistics::Bloated => {
            world.icinga.by_hand("ANALYZE").await;
            for _ in 0..3 {
                let bloat = "SET session_replication_role = replica;
                    UPDATE icinga_desktop.browser_position SET changed_at = now();
                    UPDATE browser_session SET authenticated_at = authenticated_at;
                    UPDATE incident SET started_at = started_at;
                    UPDATE incident_history SET sent_at = 1;
                    UPDATE contact SET changed_at = changed_at;
                    RESET session_replication_role";
                world.icinga.by_hand(bloat).await;
            }
        }
    }
    let filled = new_rows_are_read(&log, start).await;
    everything(&mut world, "after").await;
    world.daemon = world.another_daemon("host = 127.0.0.1\nport = 0\nnotify = severity");
    everything(&mut world, "again").await;
    few_rows_were_read(&log, filled).await;
}

/// Makes the daemon send every statement.
async fn everything(world: &mut World, when: &str) {
    let user = format!("alice-{when}");
    let mut alice = world.user(&user).await;
    // A look, and a position that is stored.
    let written = world.incident(alice.contact, "db1!disk").await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    // A severity is changed by hand.
    world
        .icinga
        .incident_contact(written.incident, alice.contact, "manager")
        .await;
    world
        .icinga
        .by_hand(&format!(
            "UPDATE incident SET severity = 'emerg' WHERE id = {}",
            written.incident
        ))
        .await;
    assert_eq!(alice.tab.event().await.incident(), written.incident);
    world.delivered(written.history[0]).await;
    // A sign-in that has to be checked again, because its contact has changed.
    world
        .icinga
        .by_hand(&format!(
            "UPDATE contact SET username = username WHERE id = {}",
            alice.contact
        ))
        .await;
    world.nothing_else(&mut [&mut alice]).await;
    // More than a page at once.
    world
        .icinga
        .by_hand(&format!(
            "INSERT INTO incident_history (incident_id, time, type, new_severity, old_severity)
               SELECT {}, 0, 'incident_severity_changed', 'crit', 'err' FROM generate_series(1, 600)",
            written.incident
        ))
        .await;
    world.nothing_else(&mut [&mut alice]).await;
    // A replay, after a restart.
    let missed = Event {
        object: "web1",
        severity: Some("crit"),
        notified: &[(alice.contact, 1, "pending")],
        ..Event::default()
    };
    drop(alice.tab);
    let missed = world.icinga.event(missed).await;
    let mut tab = world.open(&alice.session_id).await;
    while tab.event().await.incident() != missed.incident {}
}

/// Makes each table big, as Icinga does over a year.
async fn fill(world: &World) {
    let events = "INSERT INTO event (time, object_id, type, message)
        SELECT 0, sha256(n::text::bytea), 'state', 'm' FROM generate_series(1, {ROWS}) AS n;";
    let has_events = world
        .database
        .connect()
        .await
        .text("SELECT (to_regclass('event') IS NOT NULL)::text")
        .await;
    let (events, event_id) = if has_events == "true" {
        (events.replace("{ROWS}", &ROWS.to_string()), "event_id,")
    } else {
        (String::new(), "")
    };
    let event = event_id.replace("event_id", "n");
    world
        .icinga
        .by_hand(&format!(
            "SET session_replication_role = replica;
             INSERT INTO contact (full_name, username, default_channel_id, changed_at)
               SELECT 'User ' || n, 'user' || n, 1, 0 FROM generate_series(1, {ROWS}) AS n;
             INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at)
               SELECT lpad(n::text, 26, '0'), 'user' || n, 'agent', 1700000000000 + n FROM generate_series(1, {ROWS}) AS n;
             INSERT INTO icinga_desktop.browser_position (browser, floor, above, epoch, changed_at)
               SELECT sha256(lpad(n::text, 26, '0')::bytea), 0, '{{}}', '', now() FROM generate_series(1, {ROWS}) AS n;
             INSERT INTO object (id, source_id, name)
               SELECT sha256(n::text::bytea), 1, 'object ' || n FROM generate_series(1, {ROWS}) AS n;
             {events}
             INSERT INTO incident (object_id, started_at, severity)
               SELECT sha256(n::text::bytea), 0, 'ok' FROM generate_series(1, {ROWS}) AS n;
             INSERT INTO incident_contact (incident_id, contact_id, role)
               SELECT n, n, 'recipient' FROM generate_series(100, {ROWS}) AS n;
             INSERT INTO contactgroup_member (contactgroup_id, contact_id, changed_at)
               SELECT n % 100, n, 0 FROM generate_series(100, {ROWS}) AS n;
             INSERT INTO incident_history (incident_id, contact_id, channel_id, {event_id} time, type, notification_state)
               SELECT n, n, 1, {event} 0, 'notified', 'sent' FROM generate_series(100, {ROWS}) AS n;
             INSERT INTO incident_history (incident_id, {event_id} time, type, new_severity, old_severity)
               SELECT n, {event} 0, 'incident_severity_changed', 'ok', 'crit' FROM generate_series(100, {ROWS}) AS n;
             RESET session_replication_role"
        ))
        .await;
}

/// Waits until the daemon has read the rows that it found behind this position in the log, and returns the position then. They
/// are read once, which shows that such a read is noticed.
async fn new_rows_are_read(log: &Path, start: usize) -> usize {
    let first = eventually(async || {
        let (plans, end) = logged(log, start)?;
        if greedy(&plans).is_empty() {
            return Err("the new rows were not read".to_owned());
        }
        Ok(end)
    })
    .await;
    let finds_nothing = |plan: &Value| {
        query(plan).contains(LOOK) && plan["Plan"]["Actual Rows"].as_f64() == Some(0.0)
    };
    eventually(async || {
        let (plans, end) = logged(log, first)?;
        let over = plans.iter().any(finds_nothing).then_some(end);
        over.ok_or("each look found new rows".to_owned())
    })
    .await
}

/// The plans of the daemon's statements that were logged after a position in the log.
async fn few_rows_were_read(log: &Path, from: usize) {
    let plans = eventually(async || {
        let (plans, _) = logged(log, from)?;
        let seen = |part: &str| plans.iter().any(|plan| query(plan).contains(part));
        let unseen: Vec<_> = (STATEMENTS.iter())
            .filter(|(_, part)| !seen(part))
            .map(|(name, _)| name)
            .collect();
        if unseen.is_empty() {
            Ok(plans)
        } else {
            Err(format!("not seen: {unseen:?}"))
        }
    })
    .await;
    let greedy = greedy(&plans);
    assert!(greedy.is_empty(), "{}", Vec::from_iter(greedy).join("\n"));
}

fn query(plan: &Value) -> &str {
    plan["Query Text"].as_str().unwrap_or_default()
}

/// Every plan behind a position in a server's log, and where the log ends.
fn logged(log: &Path, from: usize) -> Result<(Vec<Value>, usize), String> {
    let log = std::fs::read(log).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&log[from..]);
    let plans = text
        .split("  plan:\n")
        .skip(1)
        .filter_map(|entry| {
            let json: String = (entry.lines())
                .take_while(|line| line.starts_with('\t'))
                .collect();
            serde_json::from_str(&json).ok()
        })
        .collect();
    Ok((plans, log.len()))
}

/// The reads of these plans that were of more than a few rows of a table.
fn greedy(plans: &[Value]) -> BTreeSet<String> {
    let mut greedy = BTreeSet::new();
    for plan in plans {
        read_much(&plan["Plan"], query(plan), &mut greedy);
    }
    greedy
}

/// Finds the nodes of a plan that have read more than a few rows of a table.
fn read_much(node: &Value, query: &str, greedy: &mut BTreeSet<String>) {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    if let Some(table) = node["Relation Name"].as_str() {
        let read = number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck");
        let read = read * number("Actual Loops");
        if read > FEW {
            let index = node["Index Name"].as_str().unwrap_or("no index");
            greedy.insert(format!("{read} rows of {table}, by {index}, for: {query}"));
        }
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        read_much(child, query, greedy);
    }
}
