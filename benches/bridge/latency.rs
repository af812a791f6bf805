//! From COMMIT to the client, compared with a client that LISTENs itself.
//!
//! Which of two receives the same commit first also depends on which one PostgreSQL wakes first, and both compete for CPU time.
//! So each is connected first for half of the commits, and then each has a separate database.
//!
//! Both receivers are alike: a thread with its own runtime that does nothing else and notes the time as soon as it has read the
//! bytes. The bare one reads a Unix socket as the daemon does; the browser's TCP connection comes on top.
//!
//! A third one is in between: a LISTEN client that then reads the new history rows by key, which is the minimum, because the bell
//! only announces that there are some.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio_postgres::NoTls;

use crate::bare;
use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd;
use crate::shared::figures::{Sorted, microseconds};
use crate::shared::record::{record, rounded};

/// Commits per order of connecting, and of each when alone.
const COMMITS: usize = 1000;

/// Not measured: caches and plans warm up.
const WARM_UP: usize = 100;

/// Between two commits: Icinga Notifications handles 57 to 80 events a second at most. The pause after a look is then over, which
/// the daemon makes so that commits that follow each other closely share a look (`riders` measures those).
const PAUSE: Duration = Duration::from_millis(15);

/// How long a commit may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The browser's tabs.
const TABS: usize = 2;

/// When each event arrived.
type Heard = mpsc::Receiver<Instant>;

pub(crate) async fn run() {
    println!(
        "COMMIT does not wait for the disk, as in the tests: what is left is processor time and wake-ups"
    );
    on(&Cluster::private(), false).await;
    println!(
        "COMMIT waits for the disk, as Icinga's database does unless somebody has changed that:"
    );
    on(&crate::durable().await, true).await;
}

async fn on(cluster: &Cluster, disk: bool) {
    let (mut bare, mut bridge) = (Vec::new(), Vec::new());
    for bare_first in [true, false] {
        let stage = Stage::new(cluster, "latency").await;
        let listener = bare_first.then(|| listen(&stage.database, false));
        let daemon = shared::daemon(&stage.database, &stage.role);
        let subscriber = subscribe(&daemon.address);
        let listener = listener.unwrap_or_else(|| listen(&stage.database, false));
        let mut times = (Vec::new(), Vec::new());
        for commit in 0..WARM_UP + COMMITS {
            let sent = stage.commit().await;
            let (bare, bridge) = (since(sent, &listener), since(sent, &subscriber));
            if commit >= WARM_UP {
                times.0.push(bare);
                times.1.push(bridge);
            }
        }
        let what = if bare_first {
            "same commits, bare LISTEN connected first"
        } else {
            "same commits, bridge connected first"
        };
        report(what, &times.0, &times.1);
        note(disk, what, "bare LISTEN", &times.0);
        note(disk, what, "bridge", &times.1);
        bare.extend(times.0);
        bridge.extend(times.1);
    }
    report("same commits, both orders together", &bare, &bridge);

    let bare_stage = Stage::new(cluster, "latency_bare").await;
    let listener = listen(&bare_stage.database, false);
    let reading_stage = Stage::new(cluster, "latency_reading").await;
    let reader = listen(&reading_stage.database, true);
    let bridge_stage = Stage::new(cluster, "latency_bridge").await;
    let daemon = shared::daemon(&bridge_stage.database, &bridge_stage.role);
    let subscriber = subscribe(&daemon.address);
    let (mut bare, mut reading, mut bridge) = (Vec::new(), Vec::new(), Vec::new());
    for commit in 0..WARM_UP + COMMITS {
        let times = (
            since(bare_stage.commit().await, &listener),
            since(reading_stage.commit().await, &reader),
            since(bridge_stage.commit().await, &subscriber),
        );
        if commit >= WARM_UP {
            bare.push(times.0);
            reading.push(times.1);
            bridge.push(times.2);
        }
    }
    let what = "each alone, by turns";
    report(what, &bare, &bridge);
    note(disk, what, "bare LISTEN", &bare);
    note(disk, what, "LISTEN and read", &reading);
    note(disk, what, "bridge", &bridge);
    let (bare, reading) = (Sorted::new(bare), Sorted::new(reading));
    let bridge = Sorted::new(bridge);
    println!(
        "LISTEN, then one query by key: median {:.0} us, p99 {:.0} us; that is {:.2} of bare LISTEN, \
         and the bridge {:.2} of that (medians)",
        reading.median(),
        reading.percentile(99),
        reading.median() / bare.median(),
        bridge.median() / reading.median(),
    );
}

fn report(what: &str, bare: &[f64], bridge: &[f64]) {
    let (count, bare) = (bare.len(), Sorted::new(bare.iter().copied()));
    let bridge = Sorted::new(bridge.iter().copied());
    println!(
        "{what} ({count}): bare LISTEN median {:.0} us, p99 {:.0} us; bridge median {:.0} us, p99 {:.0} us; \
         ratio of medians {:.2} (target: at most 1.15)",
        bare.median(),
        bare.percentile(99),
        bridge.median(),
        bridge.percentile(99),
        bridge.median() / bare.median(),
    );
}

/// Records the latencies of one receiver.
fn note(disk: bool, commits: &str, receiver: &str, values: &[f64]) {
    record(
        "latency",
        json!({
            "disk": disk, "commits": commits, "receiver": receiver,
            "latencies_us": rounded(values.iter().copied()),
        }),
    );
}

/// Microseconds until the next event.
fn since(sent: Instant, heard: &Heard) -> f64 {
    let at = heard.recv_timeout(TIMEOUT).expect("the event arrives");
    microseconds(at - sent)
}

/// A database with one signed-in contact, and Icinga.
struct Stage {
    database: Database,
    role: String,
    icinga: Icinga,
}

impl Stage {
    async fn new(cluster: &Cluster, hint: &str) -> Self {
        let (database, role) = installed(cluster, hint, Shape::V1_0);
        crowd::populate(&database, 1);
        let icinga = Icinga::new(database.connect().await, Shape::V1_0);
        Self {
            database,
            role,
            icinga,
        }
    }

    /// Notifies the contact about a new incident, and returns when COMMIT was sent.
    async fn commit(&self) -> Instant {
        thread::sleep(PAUSE);
        self.icinga.by_hand("BEGIN").await;
        self.icinga
            .write(Event {
                object: "db1!disk",
                severity: Some("crit"),
                message: Some("DISK CRITICAL - free space: / 212 MB (1% inode=98%)"),
                notified: &[(1, 1, "pending")],
                ..Event::default()
            })
            .await;
        let sent = Instant::now();
        self.icinga.by_hand("COMMIT").await;
        sent
    }
}

/// Runs a receiver on a separate thread; returns once it has sent its first time, which means that it is ready.
fn receiver<F>(work: impl FnOnce(mpsc::Sender<Instant>) -> F + Send + 'static) -> Heard
where
    F: Future<Output = ()>,
{
    let (sender, heard) = mpsc::channel();
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(work(sender));
    });
    heard.recv_timeout(TIMEOUT).expect("the receiver is ready");
    heard
}

/// A browser with two tabs: while the stream of one has ended for a receipt, the other one receives events.
fn subscribe(address: &str) -> Heard {
    let address = address.to_owned();
    receiver(async move |heard| {
        let known = RefCell::new(HashSet::new());
        let on_event = |digest| {
            let at = Instant::now();
            if known.borrow_mut().insert(digest) {
                let _ = heard.send(at);
            }
        };
        let open = Cell::new(0);
        let on_open = || {
            open.set(open.get() + 1);
            if open.get() == TABS {
                let _ = heard.send(Instant::now());
            }
        };
        join_all((0..TABS).map(|_| crowd::tab(&address, 1, on_open, on_event))).await;
    })
}

/// A PostgreSQL client that receives what the daemon receives, and if `reads` does the minimum that the daemon must do.
fn listen(database: &Database, reads: bool) -> Heard {
    let config = bare::config(database);
    receiver(async move |heard| {
        let (queries, connection) = config.connect(NoTls).await.expect("a connection");
        tokio::spawn(connection);
        let rows = "SELECT id, message FROM incident_history WHERE id > $1 ORDER BY id";
        let rows = queries.prepare(rows).await.expect("a statement");
        let mut newest: i64 = 0;

        let mut notifications = bare::listen(&config).await;
        let mut open = heard.send(Instant::now()).is_ok();
        while open && notifications.next().await.is_some() {
            let mut at = Instant::now();
            if reads {
                let rows = queries.query(&rows, &[&newest]).await.expect("rows");
                newest = rows.last().expect("new ones").get(0);
                at = Instant::now();
            }
            open = heard.send(at).is_ok();
        }
    })
}
