//! Trouble, on purpose: databases that stop, crash, freeze, block, fail over or hide behind a pooler, and daemons that
//! do not keep up. Nothing that was committed meanwhile is lost or told twice, the log names the cause, and Icinga does
//! not notice.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::pgbouncer::PgBouncer;
use crate::common::postgres::{Cluster, Database, PASSWORD};
use crate::common::sse::{AGENT, Answer, PATIENCE};
use crate::common::world::{User, World, installed, resource};
use tokio::time::timeout;

const PENDING: &str = "pending";

/// What no log may show.
const TITLE: &str = "private-host!private-service";
const MESSAGE: &str = "private plugin output";

/// The sessions of a daemon that ask, in `pg_stat_activity`.
const QUERYING: &str =
    "application_name IN ('icinga-desktop-bridge query', 'icinga-desktop-bridge sign-in')";
/// The one that listens.
const LISTENING: &str = "application_name = 'icinga-desktop-bridge listener'";
/// All of them.
const ALL: &str = "application_name LIKE 'icinga-desktop-bridge%'";

/// Waits until `sql`, whose answer is a boolean, says yes.
async fn wait_until(database: &Database, sql: &str) {
    let session = database.connect().await;
    let sql = format!("SELECT ({sql})::text");
    let waiting = async {
        while session.text(&sql).await != "true" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, waiting).await.is_err() {
        panic!("never true: {sql}");
    }
}

/// A new incident, of which these contacts are notified.
async fn notify(icinga: &Icinga, contacts: &[i64]) -> Written {
    let notified: Vec<_> = contacts
        .iter()
        .map(|contact| (*contact, 1, PENDING))
        .collect();
    icinga
        .event(Event {
            object: TITLE,
            severity: Some("crit"),
            message: Some(MESSAGE),
            notified: &notified,
            ..Event::default()
        })
        .await
}

/// The next event on `user`'s stream is about what was `written`.
async fn expect(user: &mut User, written: &Written) {
    assert_eq!(user.stream.event().await.incident(), written.incident);
}

/// The next events on `user`'s stream are about these, each once, in whatever order.
async fn expect_all(user: &mut User, written: &[Written]) {
    let mut missing: HashSet<i64> = written.iter().map(|written| written.incident).collect();
    while !missing.is_empty() {
        let incident = user.stream.event().await.incident();
        assert!(missing.remove(&incident), "twice, or unknown: {incident}");
    }
}

/// Opens a stream as a browser does that was told to come back, until it stays.
async fn come_back(world: &World, session_id: &str) -> Answer {
    let coming = async {
        loop {
            let mut answer = Answer::subscribe(&world.daemon.address, session_id).await;
            assert_eq!(answer.status, 200);
            let first = answer.block().await.expect("a first block at once");
            // Told to come back: nothing but that.
            if first.raw.starts_with(":\n") {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, coming)
        .await
        .expect("a stream that stays")
}

/// Asserts that an answer tells the browser to come back, and nothing else.
async fn assert_told_to_come_back(mut answer: Answer) {
    assert_eq!(answer.status, 200);
    let block = answer.block().await.expect("a whole block");
    assert!(block.retry.is_some_and(|retry| retry >= 2000), "{block:?}");
    assert!(answer.block().await.is_none(), "it stays open");
}

/// What holds after every trouble: nothing more comes, PostgreSQL's queue is empty, and the log names the `causes` and
/// nothing private.
async fn aftermath(world: &World, users: &mut [&mut User], causes: &[&str]) {
    world.nothing_else(users).await;
    wait_until(&world.database, "pg_notification_queue_usage() = 0").await;
    assert_log(&world.daemon, causes);
    let log = world.daemon.log();
    for user in users {
        assert!(!log.contains(&user.session_id), "{log}");
    }
}

fn assert_log(daemon: &Daemon, causes: &[&str]) {
    let log = daemon.log();
    for cause in causes {
        assert!(log.contains(cause), "{cause:?} is missing:\n{log}");
    }
    for private in ["private-", MESSAGE, PASSWORD] {
        assert!(!log.contains(private), "{private:?} is logged:\n{log}");
    }
}

/// Reconnects Icinga, whose session a stopped server has ended.
async fn reconnect(world: &mut World) {
    world.icinga = Icinga::new(world.database.connect().await, Shape::V1_0);
}

/// Runs `check`; its exit code, and what it wrote.
fn check(resource: &str) -> (Option<i32>, String) {
    let output = ConfigDir::new("", resource)
        .command(&["check"])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// What the daemon's sessions are ended by, again and again, until it has happened once.
async fn terminate(database: &Database, which: &str) {
    wait_until(
        database,
        &format!("SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE {which}"),
    )
    .await;
}

async fn streams_outlive_the_database(stop: impl Fn(&Cluster), cause: &str) {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "away", Shape::V1_0).await;
    // What the test's server forgets in a crash for speed, Icinga's does not.
    world.icinga.by_hand("SET synchronous_commit = on").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    stop(&cluster);
    world.daemon.wait_for_log("not listening: ");
    world.daemon.wait_for_log("query session lost: ");
    // It has tried at least once, in vain, and shall not be back before Icinga.
    world.daemon.wait_for_log("cannot connect to ");
    world.daemon.signal("STOP");
    cluster.start();
    reconnect(&mut world).await;
    let first = notify(&world.icinga, &[alice.contact, bob.contact]).await;
    let second = notify(&world.icinga, &[alice.contact]).await;
    world.daemon.signal("CONT");
    expect(&mut bob, &first).await;
    expect_all(&mut alice, &[first, second]).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &[cause, "cannot connect to ", "next attempt in "],
    )
    .await;
}

#[tokio::test]
async fn streams_outlive_a_stop_of_the_database_and_get_what_was_committed_before_the_daemon_is_back()
 {
    streams_outlive_the_database(
        Cluster::stop,
        "terminating connection due to administrator command",
    )
    .await;
}

#[tokio::test]
async fn streams_outlive_a_crash_of_the_database_and_get_what_was_committed_before_the_daemon_is_back()
 {
    // "because of crash of another server process", or the bare end of the connection.
    streams_outlive_the_database(Cluster::crash, "not listening: ").await;
}

#[tokio::test]
async fn without_a_database_at_its_start_the_daemon_tells_browsers_to_come_back_until_it_is_there()
{
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "no_start", Shape::V1_0);
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let contact = icinga.contact("alice").await;
    let session_id = icinga.sign_in("alice", AGENT).await;
    cluster.stop();
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch(config);
    assert_told_to_come_back(Answer::subscribe(&daemon.address, &session_id).await).await;
    daemon.wait_for_log("cannot connect to ");
    assert!(!daemon.log().contains("ready: "));
    cluster.start();
    daemon.wait_for_log("ready: ");
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let world = World {
        daemon,
        icinga,
        database,
        role,
    };
    let mut alice = User {
        contact,
        stream: come_back(&world, &session_id).await,
        session_id,
    };
    let written = notify(&world.icinga, &[contact]).await;
    expect(&mut alice, &written).await;
    aftermath(
        &world,
        &mut [&mut alice],
        &["cannot connect to ", "next attempt in "],
    )
    .await;
}

#[tokio::test]
async fn terminated_sessions_are_replaced_and_lose_nothing() {
    let cluster = Cluster::private();
    for (which, times, cause) in [
        (ALL, 10, "lost: "),
        (LISTENING, 5, "not listening: "),
        (QUERYING, 5, "query session lost: "),
    ] {
        let world = World::on(&cluster, "terminated", Shape::V1_0).await;
        let mut alice = world.user("alice").await;
        let mut written = Vec::new();
        for _ in 0..times {
            written.push(notify(&world.icinga, &[alice.contact]).await);
            terminate(&world.database, which).await;
            written.push(notify(&world.icinga, &[alice.contact]).await);
        }
        expect_all(&mut alice, &written).await;
        aftermath(
            &world,
            &mut [&mut alice],
            &[cause, "terminating connection due to administrator command"],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_loses_and_doubles_nothing() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "frozen", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    let frozen = cluster.freeze();
    let contacts = [alice.contact];
    let writing = notify(&world.icinga, &contacts);
    tokio::pin!(writing);
    assert!(futures::poll!(&mut writing).is_pending());
    let told = tokio::task::block_in_place(|| world.daemon.wait_for_log("no answer within "));
    assert!(told.contains("overloaded or frozen"), "{told}");
    assert!(
        futures::poll!(&mut writing).is_pending(),
        "the server is not frozen"
    );
    drop(frozen);
    let written = writing.await;
    expect(&mut alice, &written).await;
    world.daemon.wait_for_log("it answers again");
    let after = notify(&world.icinga, &contacts).await;
    expect(&mut alice, &after).await;
    aftermath(&world, &mut [&mut alice], &["overloaded or frozen"]).await;
    assert!(!world.daemon.log().contains("deaf"), "it was only late");
}

async fn hanging_sessions_are_replaced(which: &str, causes: &[&str]) {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "hanging", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    let pids = world
        .database
        .connect()
        .await
        .text(&format!(
            "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE {which}"
        ))
        .await;
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let frozen = cluster.freeze_only(pids);
    let written = notify(&world.icinga, &[alice.contact]).await;
    for cause in causes {
        world.daemon.wait_for_log(cause);
    }
    expect(&mut alice, &written).await;
    let after = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &after).await;
    let tab = come_back(&world, &alice.session_id).await;
    drop(tab);
    // They go on, and find that nobody is there any more.
    drop(frozen);
    aftermath(&world, &mut [&mut alice], causes).await;
}

#[tokio::test]
async fn a_listening_session_that_hangs_is_replaced_and_loses_nothing() {
    hanging_sessions_are_replaced(
        LISTENING,
        &["the listener is deaf: it did not hear its own notification"],
    )
    .await;
}

#[tokio::test]
async fn all_sessions_hanging_as_behind_a_proxy_whose_server_is_gone_are_replaced_and_lose_nothing()
{
    hanging_sessions_are_replaced(
        ALL,
        &[
            "overloaded or frozen",
            "still no answer: connecting anew",
            "query session lost: it does not answer",
            "sign-in session lost: it does not answer",
        ],
    )
    .await;
}

#[tokio::test]
async fn while_the_sessions_table_is_locked_sign_ins_are_told_to_come_back_and_events_go_on() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "locked", Shape::V1_0).await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let mut session_ids = Vec::new();
    for number in 0..30 {
        let name = format!("user{number}");
        world.icinga.contact(&name).await;
        session_ids.push(world.icinga.sign_in(&name, AGENT).await);
    }
    let locker = world.database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    let mut sign_ins = tokio::task::JoinSet::new();
    for session_id in session_ids {
        let address = world.daemon.address.clone();
        sign_ins.spawn(async move { Answer::subscribe(&address, &session_id).await });
    }
    wait_until(
        &world.database,
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted",
    )
    .await;
    // Behind thirty statements that wait ten seconds each, these would not arrive in time.
    for _ in 0..3 {
        let written = notify(&world.icinga, &[alice.contact, bob.contact]).await;
        expect(&mut alice, &written).await;
        expect(&mut bob, &written).await;
    }
    while let Some(answer) = sign_ins.join_next().await {
        assert_told_to_come_back(answer.unwrap()).await;
    }
    let written = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &written).await;
    locker.run("ROLLBACK").await;
    // A second tab.
    come_back(&world, &alice.session_id).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &["browsers are told to come back: ", "locked"],
    )
    .await;
}

#[tokio::test]
async fn a_daemon_that_starts_while_the_sessions_table_is_locked_waits_for_it() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "locked_start", Shape::V1_0);
    let locker = database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("statement timeout");
    assert!(
        line.contains("locked") && line.contains("next attempt"),
        "{line}"
    );
    locker.run("ROLLBACK").await;
    daemon.wait_for_log("ready: ");
}

/// A primary and its standby, and a daemon whose resource names both.
async fn with_standby(hint: &str) -> (Cluster, Cluster, World) {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, hint, Shape::V1_0);
    database
        .psql()
        .command(&format!("ALTER ROLE \"{role}\" PASSWORD '{PASSWORD}'"))
        .success();
    let standby = Cluster::standby_of(&cluster);
    let resource = format!(
        "host = \"127.0.0.1,127.0.0.1\"\nport = \"{},{}\"\ndbname = {}\nusername = {role}\npassword = {PASSWORD}",
        cluster.port(),
        standby.port(),
        database.name()
    );
    let world = World::reached_by(database, role, Shape::V1_0, &resource).await;
    (cluster, standby, world)
}

/// Waits until the standby, whose database this is, has all that Icinga has committed.
async fn replicated(world: &mut World, copy: &Database) {
    let end = world
        .icinga
        .session()
        .text("SELECT pg_current_wal_insert_lsn()::text")
        .await;
    let has_it = format!("pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
    wait_until(copy, &has_it).await;
}

#[tokio::test]
async fn the_daemon_follows_a_failover_and_tells_what_was_committed_on_the_new_primary() {
    let (cluster, standby, mut world) = with_standby("failover").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;

    let copy = standby.same_database(&world.database);
    replicated(&mut world, &copy).await;
    cluster.stop();
    // The standby is asked, too, and not taken.
    world.daemon.wait_for_log("does not allow writes");
    // The daemon shall not be there before Icinga.
    world.daemon.signal("STOP");
    standby.promote();
    world.database = copy;
    reconnect(&mut world).await;
    let first = notify(&world.icinga, &[alice.contact, bob.contact]).await;
    world.daemon.signal("CONT");
    expect(&mut alice, &first).await;
    expect(&mut bob, &first).await;
    let second = notify(&world.icinga, &[bob.contact]).await;
    expect(&mut bob, &second).await;
    let refused = format!("127.0.0.1 port {}: ", cluster.port());
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &[&refused, "does not allow writes", "next attempt in "],
    )
    .await;
}

/// Asynchronous replication: the standby never had the last commits, and gives their ids to other rows.
#[tokio::test]
async fn a_failover_that_loses_commits_loses_no_later_notification_and_repeats_none() {
    let (cluster, standby, mut world) = with_standby("lossy_failover").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    let before = notify(&world.icinga, &[alice.contact]).await;
    expect(&mut alice, &before).await;
    world.delivered(before.history[0]).await;

    // That this was told cannot be stored any more before the end of the primary.
    let locker = world.database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE icinga_desktop.browser_position IN EXCLUSIVE MODE")
        .await;
    let unstored = notify(&world.icinga, &[bob.contact]).await;
    expect(&mut bob, &unstored).await;
    let copy = standby.same_database(&world.database);
    replicated(&mut world, &copy).await;
    standby.stop();
    locker.run("ROLLBACK").await;

    let mut lost = Vec::new();
    for _ in 0..100 {
        let written = notify(&world.icinga, &[alice.contact]).await;
        expect(&mut alice, &written).await;
        lost.push(written.history[0]);
    }
    world.delivered(lost[99]).await;
    world.daemon.signal("STOP");
    cluster.stop();
    standby.start();
    standby.promote();
    world.database = copy;
    reconnect(&mut world).await;
    let mut written = Vec::new();
    for _ in 0..20 {
        written.push(notify(&world.icinga, &[alice.contact, bob.contact]).await);
    }
    let reused = |written: &Written| lost.contains(&written.history[0]);
    assert!(
        written.iter().any(reused),
        "no id is used again: {written:?}"
    );
    world.daemon.signal("CONT");
    expect_all(&mut alice, &written).await;
    expect_all(&mut bob, &written).await;
    aftermath(
        &world,
        &mut [&mut alice, &mut bob],
        &["it is on another timeline now"],
    )
    .await;
}

#[tokio::test]
async fn a_standby_is_named_as_the_cause_until_it_is_promoted() {
    let cluster = Cluster::private();
    let (original, role) = installed(&cluster, "standby", Shape::V1_0);
    let standby = Cluster::standby_of(&cluster);
    let database = standby.same_database(&original);
    let resource = resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("FAIL  server: the server is a standby"),
        "{text}"
    );
    assert!(text.contains("name the primary"), "{text}");

    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource);
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("not listening: ");
    assert!(
        line.contains("standby") && line.contains("name the primary"),
        "{line}"
    );
    assert!(!daemon.log().contains("ready: "));
    standby.promote();
    daemon.wait_for_log("ready: ");
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let world = World {
        daemon,
        icinga,
        database,
        role,
    };
    let mut alice = world.user("alice").await;
    aftermath(&world, &mut [&mut alice], &["standby"]).await;
}

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_named_as_the_cause() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "transaction", Shape::V1_0);
    let pooler = PgBouncer::start(&database, &role, "transaction");
    let resource = pooler.resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("PgBouncer"), "{text}");
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource);
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("PgBouncer");
    assert!(line.contains("connect to PostgreSQL itself"), "{line}");
}

#[tokio::test]
async fn pgbouncer_in_session_mode_works() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "session", Shape::V1_0);
    let pooler = PgBouncer::start(&database, &role, "session");
    let resource = pooler.resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(0), "{text}");
    let world = World::reached_by(database, role, Shape::V1_0, &resource).await;
    let mut alice = world.user("alice").await;
    for _ in 0..3 {
        let written = notify(&world.icinga, &[alice.contact]).await;
        expect(&mut alice, &written).await;
    }
    aftermath(&world, &mut [&mut alice], &[]).await;
    assert!(!world.daemon.log().contains("PgBouncer"));
}

#[tokio::test]
async fn a_stopped_daemon_delays_nobody_and_tells_everything_once_when_it_goes_on() {
    const INCIDENTS: i64 = 300;
    const CHANGES: i64 = 15;
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "stopped", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let mut incidents = Vec::new();
    for _ in 0..INCIDENTS {
        incidents.push(world.icinga.incident(TITLE, "crit").await);
    }
    world.nothing_else(&mut [&mut alice]).await;
    world.daemon.signal("STOP");
    // A transaction that waited for the daemon would fail, and this test with it.
    world.icinga.by_hand("SET statement_timeout = '2s'").await;
    let mut newest = HashMap::new();
    for _ in 0..CHANGES {
        for incident in &incidents {
            let sql = format!(
                "INSERT INTO incident_history \
                 (incident_id, contact_id, channel_id, time, message, type, notification_state) \
                 VALUES ({incident}, {}, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                         '{MESSAGE}', 'notified', 'pending') RETURNING id",
                alice.contact
            );
            let row = world.icinga.session().query_one(&sql, &[]).await.unwrap();
            newest.insert(*incident, row.get::<_, i64>(0));
        }
    }
    // The daemon's session could not take all of it: PostgreSQL keeps it.
    wait_until(&world.database, "pg_notification_queue_usage() > 0").await;
    world.daemon.signal("CONT");
    let mut told = HashSet::new();
    let mut last = HashMap::new();
    while last != newest {
        let event = alice.stream.event().await;
        let id: i64 = event.id.as_deref().unwrap().parse().unwrap();
        assert!(told.insert(id), "twice: {event:?}");
        let before = last.insert(event.incident(), id);
        assert!(before.is_none_or(|before| before < id), "late: {event:?}");
    }
    world.icinga.by_hand("RESET statement_timeout").await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}

#[tokio::test]
async fn without_a_daemon_icinga_writes_as_ever_and_the_next_daemon_tells_what_was_missed() {
    let cluster = Cluster::private();
    let mut world = World::on(&cluster, "absent", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let before = world.nothing_else(&mut [&mut alice]).await;
    // Stored: otherwise the next daemon would have to tell it again.
    world.delivered(before.history[0]).await;
    world.icinga.by_hand("SET statement_timeout = '2s'").await;

    // In the middle of a transaction.
    world.icinga.by_hand("BEGIN").await;
    let notified = [(alice.contact, 1, PENDING)];
    let event = Event {
        object: TITLE,
        severity: Some("crit"),
        message: Some(MESSAGE),
        notified: &notified,
        ..Event::default()
    };
    let mut written = vec![world.icinga.write(event).await];
    world.daemon.signal("KILL");
    assert_eq!(world.daemon.wait().code(), None, "killed");
    world.icinga.by_hand("COMMIT").await;
    // Within what a browser is told one by one when it comes back.
    for _ in 0..8 {
        written.push(notify(&world.icinga, &[alice.contact]).await);
    }
    wait_until(&world.database, "pg_notification_queue_usage() = 0").await;

    world.daemon = Daemon::start(&resource(&world.database, &world.role));
    alice.stream = come_back(&world, &alice.session_id).await;
    expect_all(&mut alice, &written).await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}

#[tokio::test]
async fn while_somebody_else_keeps_the_queue_from_shrinking_our_sessions_hold_no_transaction() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "queue", Shape::V1_0).await;
    let mut alice = world.user("alice").await;
    let holder = world.database.connect().await;
    holder.run("LISTEN somebody").await;
    holder.run("BEGIN; NOTIFY somebody").await;

    let done = AtomicBool::new(false);
    let watching = async {
        let watcher = world.database.connect().await;
        let mut looks = 0;
        let idle = format!(
            "SELECT count(*)::text FROM pg_stat_activity \
             WHERE {ALL} AND state LIKE 'idle in transaction%'"
        );
        while !done.load(Ordering::Relaxed) {
            assert_eq!(watcher.text(&idle).await, "0", "idle in transaction");
            looks += 1;
        }
        looks
    };
    let delivering = async {
        for _ in 0..100 {
            let written = notify(&world.icinga, &[alice.contact]).await;
            expect(&mut alice, &written).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (looks, ()) = tokio::join!(watching, delivering);
    assert!(looks > 0);
    wait_until(&world.database, "pg_notification_queue_usage() > 0").await;
    holder.run("COMMIT").await;
    aftermath(&world, &mut [&mut alice], &[]).await;
}
