//! What the triggers cost writers, compared with tables without triggers: transactions per second where COMMIT waits for the
//! disk, as in production; CPU time of the writers' backends, which other work on the same cores hardly affects; and memory of a
//! backend whose one transaction announces many rows.
//!
//! All in turns, on the same tables, emptied before each turn, with the same sessions.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use serde_json::json;
use tokio_postgres::Error;

use crate::bare;
use crate::common::daemon::Daemon;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database, Session};
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::{self, Sorted, cpu, microseconds, private};
use crate::shared::record::record;
use crate::transaction::{OBJECT, Writer};

/// Sessions that write at a time.
const WRITERS: [usize; 3] = [1, 4, 16];

/// Rounds of each variant, in turns; the default of `WRITER_ROUNDS`.
const ROUNDS: usize = 7;

/// How long the writers of one turn write, in seconds; the default of `WRITER_SECONDS`.
const SECONDS: usize = 3;

/// Transactions of each writer before that: caches and plans warm up.
const WARM_UP: usize = 20;

/// Contacts, each with an open stream if there is a daemon.
const CONTACTS: usize = 4;

/// Rows that one transaction announces when memory is measured.
const ANNOUNCED: usize = 20_000;

const MESSAGE: &str = "DISK CRITICAL - free space: / 212 MB (1% inode=98%)";

/// What is installed.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    /// The index, but no trigger. The others are compared with this one.
    NoTriggers,
    /// Neither index nor triggers.
    Nothing,
    /// A NOTIFY in each transaction, on a channel that nobody listens to. The index, but no trigger.
    BareNotify,
    DaemonAway,
    DaemonPresent,
}

const VARIANTS: [(Variant, &str); 5] = [
    (Variant::NoTriggers, "no triggers"),
    (Variant::Nothing, "no triggers and no index"),
    (Variant::BareNotify, "no triggers, one NOTIFY"),
    (Variant::DaemonAway, "triggers, daemon away"),
    (Variant::DaemonPresent, "triggers, daemon present"),
];

/// The result of a turn.
#[derive(Clone, Copy)]
struct Turn {
    /// Transactions per second.
    rate: f64,
    /// Microseconds of the backends' CPU time per transaction.
    cost: f64,
}

pub(crate) async fn run() {
    let cluster = crate::durable().await;
    let stage = Stage::new(&cluster).await;
    let rounds = figures::setting("WRITER_ROUNDS", ROUNDS);
    let seconds = figures::setting("WRITER_SECONDS", SECONDS);
    println!("COMMIT waits for the disk; {rounds} rounds of {seconds} s");
    for writers in WRITERS {
        let mut turns = vec![Vec::new(); VARIANTS.len()];
        for round in 0..rounds {
            for position in 0..VARIANTS.len() {
                // Each round starts with another one: steady changes affect all alike.
                let index = (round + position) % VARIANTS.len();
                let duration = Duration::from_secs(seconds as u64);
                let (variant, name) = VARIANTS[index];
                let turn = stage.turn(variant, writers, duration).await;
                record(
                    "writer",
                    json!({
                        "variant": name, "writers": writers, "round": round, "rate": turn.rate,
                        "backend_us": turn.cost,
                    }),
                );
                turns[index].push(turn);
            }
        }
        report(writers, &turns);
    }
    memory(&cluster).await;
}

/// Medians, and for each variant the ratio to the tables without triggers within a round.
fn report(writers: usize, turns: &[Vec<Turn>]) {
    println!("{writers} writers:");
    for ((_, name), variant) in VARIANTS.iter().zip(turns) {
        let median = |of: fn(&Turn) -> f64| Sorted::new(variant.iter().map(of)).median();
        let ratio = |of: fn(&Turn) -> f64| {
            let ratios = variant.iter().zip(&turns[0]).map(|(a, b)| of(a) / of(b));
            let ratios = Sorted::new(ratios);
            let (median, min, max) = (ratios.median(), ratios.min(), ratios.max());
            format!("{median:.2} ({min:.2} to {max:.2})")
        };
        println!(
            "  {name}: {:.0} tx/s, ratio {}; backend {:.0} us/tx, ratio {}",
            median(|turn| turn.rate),
            ratio(|turn| turn.rate),
            median(|turn| turn.cost),
            ratio(|turn| turn.cost),
        );
    }
}

/// The tables, and the sessions that write.
struct Stage {
    database: Database,
    role: String,
    session: Session,
    writers: Vec<Writer>,
}

impl Stage {
    async fn new(cluster: &Cluster) -> Self {
        let (database, role) = installed(cluster, "writer", Shape::V1_0);
        crowd::populate(&database, CONTACTS);
        let session = database.connect().await;
        session.run("ALTER SYSTEM SET autovacuum = off").await;
        session.run("SELECT pg_reload_conf()").await;
        session.run(OBJECT).await;
        let config = bare::config(&database);
        let most = WRITERS.into_iter().max().unwrap_or_default();
        let writers = try_join_all((0..most).map(|_| Writer::connect(&config))).await;
        Self {
            database,
            role,
            session,
            writers: writers.expect("they connect"),
        }
    }

    /// Lets some writers write for this time.
    async fn turn(&self, variant: Variant, writers: usize, duration: Duration) -> Turn {
        let _daemon = self.prepare(variant).await;
        let writers = &self.writers[..writers];
        let ending = if variant == Variant::BareNotify {
            "NOTIFY bare; COMMIT"
        } else {
            "COMMIT"
        };
        let written = join_all(writers.iter().enumerate().map(async |(number, writer)| {
            let enough = |turns| turns >= WARM_UP;
            write(writer, number, ending, enough).await
        }))
        .await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");

        let spent = || -> Duration { writers.iter().map(|writer| cpu(writer.backend)).sum() };
        let (before, start) = (spent(), Instant::now());
        let written = join_all(writers.iter().enumerate().map(async |(number, writer)| {
            write(writer, number, ending, |_| start.elapsed() >= duration).await
        }))
        .await;
        let (took, spent) = (start.elapsed(), spent() - before);
        let written: usize = written
            .into_iter()
            .map(|turns| turns.expect("COMMIT"))
            .sum();
        Turn {
            rate: written as f64 / took.as_secs_f64(),
            cost: microseconds(spent) / written as f64,
        }
    }

    /// Empties the tables and installs what the variant has.
    async fn prepare(&self, variant: Variant) -> Option<(Crowd, Daemon)> {
        self.database.psql().file("sql/uninstall.sql").success();
        self.session
            .run("SET client_min_messages = error; TRUNCATE incident CASCADE")
            .await;
        match variant {
            Variant::Nothing => {}
            Variant::NoTriggers | Variant::BareNotify => {
                self.session
                    .run("CREATE INDEX idx_icinga_desktop_notified ON incident_history (contact_id, id) \
                          WHERE type = 'notified'")
                    .await;
            }
            Variant::DaemonAway | Variant::DaemonPresent => {
                self.database.psql().file("sql/install.sql").success();
                let grants = self.database.psql().variable("role", &self.role);
                grants.file("sql/grants.sql").success();
            }
        }
        self.session.run("VACUUM").await;
        // The next checkpoint is after the turn, and all write full pages alike.
        self.session.run("CHECKPOINT").await;
        (variant == Variant::DaemonPresent).then(|| {
            let daemon = shared::daemon(&self.database, &self.role);
            (Crowd::open(&daemon.address, CONTACTS), daemon)
        })
    }
}

/// Opens an incident, changes its severity, and so on, until it was `enough`. Returns the number of transactions.
async fn write(
    writer: &Writer,
    number: usize,
    ending: &str,
    enough: impl Fn(usize) -> bool,
) -> Result<usize, Error> {
    let contact = |offset: usize| ((number + offset) % CONTACTS) as i64 + 1;
    let (mut turns, mut incident) = (0, 0);
    while !enough(turns) {
        if turns % 2 == 0 {
            incident = writer.open(MESSAGE, &[(contact(0), 1)]).await?;
        } else {
            let notified = [(contact(0), 1), (contact(1), 1)];
            writer.change(incident, "err", MESSAGE, &notified).await?;
        }
        writer.end(ending).await?;
        turns += 1;
    }
    Ok(turns)
}

/// How much a backend grows in a transaction that announces many rows, with and without the triggers.
async fn memory(cluster: &Cluster) {
    let (database, _) = installed(cluster, "memory", Shape::V1_0);
    crowd::populate(&database, ANNOUNCED);
    let session = database.connect().await;
    session.run(OBJECT).await;
    session
        .run(&format!(
            "INSERT INTO incident (object_id, started_at, severity) \
             SELECT sha256('o'), 0, 'err' FROM generate_series(1, {ANNOUNCED})"
        ))
        .await;
    let notified = format!(
        "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state) \
         VALUES (1, 1, 1, 0, '{MESSAGE}', 'notified', 'pending')"
    );
    let changed = "UPDATE incident SET severity = CASE severity WHEN 'crit' THEN 'err'::severity ELSE 'crit' END WHERE id = n";
    let signed_out = "DELETE FROM browser_session WHERE php_session_id = lpad(n::text, 26, '0')";
    for (what, table, statement) in [
        ("notified rows", "incident_history", notified.as_str()),
        ("severity changes", "incident", changed),
        ("sign-outs", "browser_session", signed_out),
    ] {
        let mut growth = [0.0; 2];
        for (switch, growth) in ["DISABLE", "ENABLE"].into_iter().zip(&mut growth) {
            session
                .run(&format!("ALTER TABLE {table} {switch} TRIGGER USER; CREATE TEMP TABLE s AS TABLE browser_session"))
                .await;
            *growth = grown(&database, statement).await;
            session
                .run("INSERT INTO browser_session TABLE s ON CONFLICT DO NOTHING; DROP TABLE s")
                .await;
        }
        record(
            "writer_memory",
            json!({ "what": what, "rows": ANNOUNCED, "without_mb": growth[0], "with_mb": growth[1] }),
        );
        println!(
            "{ANNOUNCED} {what} in a transaction: the backend grows by {:.1} MB with triggers, by {:.1} MB without: {:.1} MB, \
             {:.0} bytes each (target: less than 5 MB)",
            growth[1],
            growth[0],
            growth[1] - growth[0],
            (growth[1] - growth[0]) * 1e6 / ANNOUNCED as f64,
        );
    }
}

/// By how many megabytes a new session's backend grows at most until COMMIT has returned.
async fn grown(database: &Database, statement: &str) -> f64 {
    let session = database.connect().await;
    let backend = session.text("SELECT pg_backend_pid()::text").await;
    let backend: u32 = backend.parse().expect("a process id");
    let block =
        |last: usize| format!("DO $$ BEGIN FOR n IN 1..{last} LOOP {statement}; END LOOP; END $$");
    // The memory that a session keeps anyway.
    session.run(&format!("BEGIN; {}; ROLLBACK", block(1))).await;
    let before = private(backend);
    let text = format!("BEGIN; {}; COMMIT", block(ANNOUNCED));
    let work = session.run(&text);
    tokio::pin!(work);
    let mut most = before;
    loop {
        tokio::select! {
            () = &mut work => return (most.max(private(backend)) - before) as f64 / 1e6,
            () = tokio::time::sleep(Duration::from_millis(1)) => most = most.max(private(backend)),
        }
    }
}
