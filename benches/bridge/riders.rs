//! Many writers that commit at once: one of them rings, and the others rely on it. Some are slow, some roll back, and backends
//! are killed, preferably one that is about to ring. The daemon's clients count what they receive.
//!
//! Each transaction opens an incident and notifies its writer's contact, by one or two channels, which is one event. The contact
//! has a browser with two tabs: while one reconnects, the other receives events. The message identifies the transaction.
//! Afterwards the table shows what was committed: a writer that is killed in its COMMIT does not know.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::RngExt as _;
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::{Config, Error};

use crate::bare;
use crate::common::admin::{MONITORED, admin_address, metrics};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::Shape;
use crate::common::postgres::{Database, Session};
use crate::common::sse::AGENT;
use crate::common::world::{installed, resource};
use crate::shared::crowd;
use crate::shared::figures::{self, Sorted, cpu, milliseconds};
use crate::shared::record::{record, rounded};
use crate::transaction::{OBJECT, Writer};

const WRITERS: usize = 32;

/// How long they write; the default of `RIDERS_SECONDS`.
const SECONDS: usize = 60;

/// The application name of the writers.
const NAME: &str = "rider";

/// Time between two backends that are killed.
const KILL_EVERY: Duration = Duration::from_millis(100);

/// How long a slow transaction stays open before its end, in milliseconds.
const SLOW: std::ops::Range<u64> = 20..500;

/// How long nothing may arrive at the end, before the bench concludes that nothing will: longer than two looks on the interval.
const SILENCE: Duration = Duration::from_secs(12);

/// What the writers know.
#[derive(Default)]
struct Known {
    /// By its message, when COMMIT returned.
    committed: RefCell<HashMap<String, Instant>>,
    rolled_back: RefCell<HashSet<String>>,
    /// Transactions whose session ended.
    broken: RefCell<HashSet<String>>,
}

/// What arrived: each message, and when.
type Arrivals = HashMap<String, Vec<Instant>>;

pub(crate) async fn run() {
    let cluster = crate::durable().await;
    let (database, role) = installed(&cluster, "riders", Shape::V1_0);
    crowd::populate(&database, WRITERS);
    let session = database.connect().await;
    session.run(OBJECT).await;
    let config = ConfigDir::new(MONITORED, &resource(&database, &role));
    let daemon = Daemon::launch_with(config, &["run"]);
    daemon.wait_for_log("ready: ");
    let stop = Arc::new(AtomicBool::new(false));
    let events = subscribe(&daemon.address, Arc::clone(&stop));

    let known = Known::default();
    let looker = looker(&session).await;
    let before = (cpu(daemon.pid()), cpu(looker));
    let seconds = figures::setting("RIDERS_SECONDS", SECONDS) as u64;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut config = bare::config(&database);
    config.application_name(NAME);
    let riders = join_all((0..WRITERS).map(|number| ride(&config, number, until, &known)));
    let (_, killed) = futures::join!(riders, kill(&database, until));

    let spent = (cpu(daemon.pid()) - before.0, cpu(looker) - before.1);

    let arrivals = collect(&events);
    let found = metrics(&admin_address(&daemon)).await;
    stop.store(true, Ordering::Relaxed);
    report(&session, &known, &arrivals, killed).await;
    println!(
        "  processor time: daemon {:.0} ms, PostgreSQL for its looks {:.0} ms",
        milliseconds(spent.0),
        milliseconds(spent.1),
    );
    for (name, value) in found {
        let wanted = [
            "looks",
            "lags",
            "replays",
            "rows_without_bell",
            "notifications_total",
        ];
        if wanted
            .iter()
            .any(|wanted| name.starts_with(&format!("icinga_desktop_{wanted}")))
        {
            println!("  {name} {value}");
        }
    }
    println!("  the daemon's log:\n{}", daemon.log());
}

/// The server's process for the daemon's looks.
async fn looker(session: &Session) -> u32 {
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'icinga-desktop-bridge query'";
    session.text(sql).await.parse().expect("a process id")
}

/// Writes transactions until the time is over.
async fn ride(config: &Config, number: usize, until: Instant, known: &Known) {
    let mut session = None;
    for turn in 0.. {
        if Instant::now() > until {
            return;
        }
        let writer = match session.take() {
            Some(writer) => writer,
            // Killed meanwhile: try again.
            None => match Writer::connect(config).await {
                Ok(writer) => writer,
                Err(_) => continue,
            },
        };
        let message = format!("{number}.{turn}");
        match transaction(&writer, number as i64 + 1, &message).await {
            Ok(true) => {
                let mut committed = known.committed.borrow_mut();
                committed.insert(message, Instant::now());
            }
            Ok(false) => {
                known.rolled_back.borrow_mut().insert(message);
            }
            Err(_) => {
                known.broken.borrow_mut().insert(message);
                continue;
            }
        }
        session = Some(writer);
    }
}

/// Returns whether it was committed; otherwise it was rolled back.
async fn transaction(writer: &Writer, contact: i64, message: &str) -> Result<bool, Error> {
    let (channels, commits, slow) = {
        let mut rng = rand::rng();
        let slow = rng.random_bool(0.05).then(|| rng.random_range(SLOW));
        (rng.random_range(1..=2), !rng.random_bool(0.1), slow)
    };
    let notified = [(contact, 1), (contact, 2)];
    writer.open(message, &notified[..channels]).await?;
    if let Some(slow) = slow {
        tokio::time::sleep(Duration::from_millis(slow)).await;
    }
    writer
        .end(if commits { "COMMIT" } else { "ROLLBACK" })
        .await?;
    Ok(commits)
}

/// Kills backends, alternately the one that is about to ring and any other. Returns how many of each.
async fn kill(database: &Database, until: Instant) -> [usize; 2] {
    let ringer = format!(
        "SELECT count(pg_terminate_backend(pid))::text FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND application_name = '{NAME}'"
    );
    let any = format!(
        "SELECT count(pg_terminate_backend(pid))::text FROM
           (SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}' ORDER BY random() LIMIT 1) AS s"
    );
    let session = database.connect().await;
    let mut killed = [0; 2];
    while Instant::now() < until {
        for (sql, killed) in [&ringer, &any].into_iter().zip(&mut killed) {
            tokio::time::sleep(KILL_EVERY).await;
            let count: usize = session.text(sql).await.parse().expect("a number");
            *killed += count;
        }
    }
    killed
}

/// The contacts' tabs, on a separate thread: the messages of their events, and when each arrived.
fn subscribe(address: &str, stop: Arc<AtomicBool>) -> Receiver<(String, Instant)> {
    let (sender, events) = mpsc::channel();
    let (ready, subscribed) = mpsc::channel();
    let site = Site::daemon(address, AGENT);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut tabs = Vec::new();
            for contact in (1..=WRITERS).chain(1..=WRITERS) {
                tabs.push(EventSource::open(&site, &crowd::session_id(contact)).await);
            }
            let _ = ready.send(());
            let reading = tabs.into_iter().map(async |mut tab| {
                while !stop.load(Ordering::Relaxed) {
                    // Now and then, to check whether to stop.
                    let Ok(event) = timeout(Duration::from_secs(1), tab.event()).await else {
                        continue;
                    };
                    let message = event.json()["payload"]["message"].clone();
                    let message = message.as_str().expect("text").to_owned();
                    let _ = sender.send((message, Instant::now()));
                }
            });
            join_all(reading).await;
        });
    });
    subscribed.recv().expect("they are let in");
    events
}

/// All events until no more arrive.
fn collect(events: &Receiver<(String, Instant)>) -> Arrivals {
    let mut arrivals = Arrivals::new();
    while let Ok((message, at)) = events.recv_timeout(SILENCE) {
        arrivals.entry(message).or_default().push(at);
    }
    arrivals
}

async fn report(session: &Session, known: &Known, arrivals: &Arrivals, killed: [usize; 2]) {
    let written = session
        .query("SELECT message, count(*) FROM incident_history WHERE type = 'notified' GROUP BY message", &[])
        .await
        .expect("what was committed");
    let written: BTreeMap<String, i64> = (written.iter())
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let (committed, broken) = (known.committed.borrow(), known.broken.borrow());
    let lost = committed.keys().filter(|key| !written.contains_key(*key));
    assert_eq!(lost.count(), 0, "PostgreSQL lost what it had committed");
    let times = |message: &String| arrivals.get(message).map_or(0, Vec::len);
    let missing: Vec<_> = written.keys().filter(|key| times(key) == 0).collect();
    let doubled: Vec<_> = written.keys().filter(|key| times(key) > 1).collect();
    let made_up = arrivals.keys().filter(|key| !written.contains_key(*key));
    println!(
        "{WRITERS} writers: {} transactions committed ({} of them unknown to their writer), {} rows; {} rolled back; {} ended by \
         {} killed ringers and {} others",
        written.len(),
        broken
            .iter()
            .filter(|key| written.contains_key(*key))
            .count(),
        written.values().sum::<i64>(),
        known.rolled_back.borrow().len(),
        broken.len(),
        killed[0],
        killed[1],
    );
    println!(
        "  exactly once: {}; missing: {}; more than once: {}; not committed: {}",
        written.keys().filter(|key| times(key) == 1).count(),
        missing.len(),
        doubled.len(),
        made_up.count(),
    );
    for (what, some) in [("missing", &missing), ("more than once", &doubled)] {
        if !some.is_empty() {
            println!("  {what}, for example: {:?}", &some[..some.len().min(20)]);
        }
    }
    // It may have arrived before COMMIT has returned.
    let latencies = Sorted::new(committed.iter().filter_map(|(message, returned)| {
        let at = arrivals.get(message)?.first()?;
        Some(milliseconds(at.saturating_duration_since(*returned)))
    }));
    println!(
        "  from COMMIT's return to the client: median {:.1} ms, p99 {:.1} ms, at most {:.0} ms; {:.2} % within 50 ms \
         (target: 99 %)",
        latencies.median(),
        latencies.percentile(99),
        latencies.max(),
        latencies.share_up_to(50.0) * 100.0,
    );
    record(
        "riders",
        json!({
            "writers": WRITERS, "committed": written.len(), "missing": missing.len(), "doubled": doubled.len(),
            "latencies_ms": rounded(latencies.values()),
        }),
    );
}
