//! Deliberate trouble: databases that stop, crash, freeze, block, fail over or are behind a pooler, and daemons that do not keep
//! up. Nothing committed meanwhile is lost or sent twice, the log names the cause, and Icinga is not affected.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod backlog;
mod failover;
mod hangs;
mod locks;
mod outages;
mod pooler;

use std::collections::HashSet;

use crate::common::command::run;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Icinga, Shape, Written};
use crate::common::postgres::PASSWORD;
use crate::common::sse::{AGENT, Answer};
use crate::common::world::{User, World};

const PENDING: &str = "pending";

/// Texts that must not appear in any log.
const TITLE: &str = "private-host!private-service";
const MESSAGE: &str = "private plugin output";

/// The query sessions of a daemon, in `pg_stat_activity`.
const QUERYING: &str =
    "application_name IN ('icinga-desktop-bridge query', 'icinga-desktop-bridge sign-in')";
/// The session that listens.
const LISTENING: &str = "application_name = 'icinga-desktop-bridge listener'";
/// All of them.
const ALL: &str = "application_name LIKE 'icinga-desktop-bridge%'";

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
    assert_eq!(user.tab.event().await.incident(), written.incident);
}

/// The next events on `user`'s stream are about these, each once, in any order.
async fn expect_all(user: &mut User, written: &[Written]) {
    let mut missing: HashSet<i64> = written.iter().map(|written| written.incident).collect();
    while !missing.is_empty() {
        let incident = user.tab.event().await.incident();
        assert!(missing.remove(&incident), "twice, or unknown: {incident}");
    }
}

/// Opens a tab of a browser that may be asked to come back later.
async fn come_back(world: &World, session_id: &str) -> EventSource {
    EventSource::open_at_last(&Site::daemon(&world.daemon.address, AGENT), session_id).await
}

/// Asserts that an answer asks the browser to come back later, and nothing else.
async fn assert_asked_to_come_back(mut answer: Answer) {
    assert_eq!(answer.status, 200);
    let block = answer.block().await.expect("a whole block");
    assert!(block.retry.is_some_and(|retry| retry >= 2000), "{block:?}");
    assert!(answer.block().await.is_none(), "it stays open");
}

/// What is true after every trouble: no further event arrives, PostgreSQL's queue is empty, and the log names the `causes` and
/// nothing private.
async fn aftermath(world: &World, users: &mut [&mut User], causes: &[&str]) {
    world.nothing_else(users).await;
    world
        .database
        .eventually("pg_notification_queue_usage() = 0")
        .await;
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

/// Runs `check`; its exit code and its output.
fn check(resource: &str) -> (Option<i32>, String) {
    run(&ConfigDir::new("", resource), &["check"])
}
