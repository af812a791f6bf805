//! How fast browsers are accepted after a restart, when all of them return at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::common::daemon::Daemon;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::AGENT;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd;
use crate::shared::figures::{Effort, Sorted, milliseconds};
use crate::shared::record::{record, rounded};

const USERS: usize = 10_000;

/// Clients at a time, and how many sign-ins they share.
const CROWDS: [(usize, usize); 3] = [(1, 2000), (10, 5000), (100, 10_000)];

/// The daemon's statement (`Session::prepare` in src/database/prepare.rs).
const QUERY: &str = "SELECT s.user_agent = $2,
       NOT EXISTS (SELECT FROM browser_session n
         WHERE n.username = s.username AND n.user_agent = s.user_agent
           AND (n.authenticated_at, n.php_session_id) > (s.authenticated_at, s.php_session_id)),
       c.id
     FROM browser_session s
     LEFT JOIN contact c ON c.username = s.username AND c.deleted = 'n'
     WHERE s.php_session_id = $1";

pub(crate) async fn run() {
    let (database, role) = installed(Cluster::shared(), "sign_in", Shape::V1_0);
    crowd::populate(&database, USERS);
    let daemon = shared::daemon(&database, &role);
    // An index of sql/install.sql, to build it again.
    let index = database
        .connect()
        .await
        .text("SELECT pg_get_indexdef('idx_icinga_desktop_session'::regclass)")
        .await;
    database
        .psql()
        .command("DROP INDEX idx_icinga_desktop_session")
        .success();
    println!("{USERS} sessions of one user agent, without idx_icinga_desktop_session:");
    explain(&database).await;
    let without = rates(&daemon, &database, false).await;
    database.psql().command(&index).success();
    println!("with it, {index}:");
    explain(&database).await;
    let with = rates(&daemon, &database, true).await;
    let ratios: Vec<String> = std::iter::zip(&with, &without)
        .map(|(with, without)| format!("{:.1}", with / without))
        .collect();
    println!(
        "rate with the index by the rate without: {}",
        ratios.join(", ")
    );
}

/// Sign-ins per second, for each of [`CROWDS`].
async fn rates(daemon: &Daemon, database: &Database, index: bool) -> Vec<f64> {
    let mut rates = Vec::new();
    for (clients, sign_ins) in CROWDS {
        let next = Arc::new(AtomicUsize::new(0));
        let before = Effort::so_far(daemon.pid(), database);
        let start = Instant::now();
        let clients_at_work: Vec<_> = (0..clients)
            .map(|_| {
                let (next, address) = (Arc::clone(&next), daemon.address.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= sign_ins {
                            return times;
                        }
                        let start = Instant::now();
                        // Spread: the older a session, the more newer ones the query may have to read.
                        let user = number * 7919 % USERS + 1;
                        drop(crowd::open(&address, user).await);
                        times.push(milliseconds(start.elapsed()));
                    }
                })
            })
            .collect();
        let mut times = Vec::new();
        for client in clients_at_work {
            times.extend(client.await.expect("every sign-in succeeds"));
        }
        let rate = sign_ins as f64 / start.elapsed().as_secs_f64();
        let times = Sorted::new(times);
        let spent = Effort::so_far(daemon.pid(), database).since(&before);
        println!(
            "  {clients} at a time: {rate:.0} sign-ins/s; each median {:.2} ms, p99 {:.2} ms; {spent}",
            times.median(),
            times.percentile(99),
        );
        record(
            "sign_in",
            json!({
                "index": index, "clients": clients, "rate": rate, "spent": spent,
                "each_ms": rounded(times.values()),
            }),
        );
        rates.push(rate);
    }
    rates
}

/// The plan for one of the users, and where its time is spent.
async fn explain(database: &Database) {
    let session = database.connect().await;
    let query = QUERY
        .replace("$1", &format!("'{}'", crowd::session_id(USERS / 2)))
        .replace("$2", &format!("'{AGENT}'"));
    // The first run warms up the caches.
    for last in [false, true] {
        let plan = session
            .simple_query(&format!("EXPLAIN (ANALYZE, COSTS OFF) {query}"))
            .await
            .expect("a plan");
        for line in plan.iter().filter(|_| last) {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = line {
                println!("    {}", row.get(0).unwrap_or_default());
            }
        }
    }
}
