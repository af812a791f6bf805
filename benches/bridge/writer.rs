//! What the triggers cost who writes, beside a writer that sends as many NOTIFYs itself.
//!
//! Twice: as transactions per second, which is what a writer feels, and as processor time of the writer's backend, which is
//! what the triggers can change and which somebody else's work on the same cores hardly touches.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio_postgres::{Client, Statement};

use crate::bare;
use crate::common::daemon::Daemon;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database, Session};
use crate::common::world::installed;
use crate::crowd;
use crate::figures::{self, Sorted, microseconds};

/// Rows of type `notified` in a transaction.
const SHAPES: [usize; 3] = [1, 3, 10];

/// Of each database, by turns. Many and short, so that somebody else's work falls on all alike.
const ROUNDS: usize = 80;

/// Each round takes about as long whatever the shape.
const ROWS_PER_ROUND: usize = 60;

/// What a large installation collects in some weeks.
const HISTORY: usize = 200_000;

/// Between two databases, so that what hears one writer is done before the next begins.
const SETTLE: Duration = Duration::from_millis(5);

const MESSAGE: &str = "DISK CRITICAL - free space: / 212 MB (1% inode=98%)";

/// How a writer sends its statements.
#[derive(Clone, Copy)]
enum Style {
    /// Prepared, each a round trip, as Icinga Notifications does.
    Statements,
    /// The whole transaction in one round trip: nearly all of the time is the server's, so a cost shows most here.
    Batch,
}

pub(crate) async fn run() {
    let mut writers = Vec::new();
    for (rows, hint) in [(0, "empty"), (HISTORY, "grown")] {
        writers.push(Writer::new(true, rows, hint).await);
        writers.push(Writer::new(false, rows, hint).await);
    }
    for (style, name) in [
        (Style::Statements, "a round trip per statement"),
        (Style::Batch, "a round trip per transaction"),
    ] {
        println!("{name}:");
        for rows in SHAPES {
            compare(&writers, style, rows).await;
        }
    }
}

/// Lets all four write by turns, and says what came of it.
async fn compare(writers: &[Writer], style: Style, rows: usize) {
    let transactions = ROWS_PER_ROUND / rows;
    let (mut rates, mut costs) = (
        vec![Vec::new(); writers.len()],
        vec![Vec::new(); writers.len()],
    );
    for round in 0..=ROUNDS {
        // There and back again: whatever changes steadily meets all alike.
        let mut order: Vec<usize> = (0..writers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let writer = &writers[index];
            thread::sleep(SETTLE);
            let (start, cpu) = (Instant::now(), figures::cpu(writer.backend));
            for _ in 0..transactions {
                writer.write(style, rows).await;
            }
            let (time, cpu) = (start.elapsed(), figures::cpu(writer.backend) - cpu);
            // The first round warms up.
            if round > 0 {
                rates[index].push(transactions as f64 / time.as_secs_f64());
                costs[index].push(microseconds(cpu) / transactions as f64);
            }
        }
    }
    let median = |values: &[Vec<f64>], of: usize| Sorted::new(values[of].iter().copied()).median();
    for (what, [triggers, bare]) in [("empty history", [0, 1]), ("200,000 rows", [2, 3])] {
        let by_turns =
            Sorted::new(std::iter::zip(&rates[triggers], &rates[bare]).map(|(a, b)| a / b));
        let (triggers_cost, bare_cost) = (median(&costs, triggers), median(&costs, bare));
        println!(
            "  {rows} notified, {what}: triggers {:.0} tx/s, bare NOTIFY {:.0} tx/s, ratio {:.2} (target: at least 0.9; \
             middle half of the rounds {:.2} to {:.2}); backend {triggers_cost:.0} and {bare_cost:.0} us/tx, ratio {:.2}",
            median(&rates, triggers),
            median(&rates, bare),
            by_turns.median(),
            by_turns.percentile(25),
            by_turns.percentile(75),
            bare_cost / triggers_cost,
        );
    }
    println!(
        "  {rows} notified, 200,000 rows by empty: backend time with triggers {:.2}, with bare NOTIFY {:.2}",
        median(&costs, 2) / median(&costs, 0),
        median(&costs, 3) / median(&costs, 1),
    );
}

/// A session that writes as Icinga does, and what listens to it.
struct Writer {
    session: Session,
    statements: Statements,
    /// The process that serves it.
    backend: u32,
    triggers: bool,
    _database: Database,
    /// The daemon where there are triggers; elsewhere a thread that LISTENs.
    _daemon: Option<Daemon>,
}

struct Statements {
    incident: Statement,
    history: Statement,
    contact: Statement,
    notified: Statement,
    save: Statement,
    notify: Statement,
}

impl Writer {
    async fn new(triggers: bool, history: usize, hint: &str) -> Self {
        let (database, daemon) = if triggers {
            let (database, role) = installed(Cluster::shared(), hint, Shape::V1_0);
            let daemon = crate::daemon(&database, &role);
            (database, Some(daemon))
        } else {
            let database = Cluster::shared().database(hint);
            database.psql().file(Shape::V1_0.fixture()).success();
            // The index is not what is compared.
            database
                .psql()
                .command(
                    "CREATE INDEX ON incident_history (contact_id, id) WHERE type = 'notified'",
                )
                .success();
            listen(&database);
            (database, None)
        };
        crowd::populate(&database, SHAPES[SHAPES.len() - 1]);
        let session = database.connect().await;
        // As on the day after a migration: PostgreSQL knows nothing of what is in the table.
        session
            .run(&format!(
                "ALTER TABLE incident_history SET (autovacuum_enabled = off);
                 INSERT INTO object (id, source_id, name) VALUES (sha256('o'), 1, 'db1!disk');
                 INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('o'), 0, 'crit');
                 BEGIN;
                 SET LOCAL session_replication_role = replica;
                 INSERT INTO incident_history
                     (incident_id, contact_id, channel_id, time, message, type, notification_state)
                   SELECT 1, 1 + n % 10, 1, n, '{MESSAGE}', 'notified', 'sent' FROM generate_series(1, {history}) AS n;
                 COMMIT"
            ))
            .await;
        let statements = Statements::prepare(&session).await;
        let backend = session.text("SELECT pg_backend_pid()::text").await;
        Self {
            session,
            statements,
            backend: backend.parse().expect("a process id"),
            triggers,
            _database: database,
            _daemon: daemon,
        }
    }

    async fn write(&self, style: Style, rows: usize) {
        match style {
            Style::Statements => self.statements(rows).await,
            Style::Batch => self.batch(rows).await,
        }
        .expect("the transaction commits");
    }

    /// A new incident, in Icinga's order. It and each notified row announce something.
    async fn statements(&self, rows: usize) -> Result<(), tokio_postgres::Error> {
        let (session, statements): (&Client, _) = (&self.session, &self.statements);
        session.batch_execute("BEGIN").await?;
        let incident: i64 = session.query_one(&statements.incident, &[]).await?.get(0);
        self.notify(&format!(
            r#"{{"tx":"1234567","incident_id":{incident},"severity":"crit"}}"#
        ))
        .await?;
        for what in ["opened", "rule_matched", "escalation_triggered"] {
            session
                .execute(&statements.history, &[&incident, &what])
                .await?;
        }
        for contact in 1..=rows as i64 {
            session
                .execute(&statements.contact, &[&incident, &contact])
                .await?;
        }
        for contact in 1..=rows as i64 {
            let history: i64 = session
                .query_one(&statements.notified, &[&incident, &contact, &MESSAGE])
                .await?
                .get(0);
            self.notify(&format!(
                r#"{{"tx":"1234567","history_id":{history},"incident_id":{incident},"contact_id":{contact},"state":"pending"}}"#
            ))
            .await?;
        }
        session
            .execute(&statements.save, &[&incident, &MESSAGE])
            .await?;
        session.batch_execute("COMMIT").await
    }

    /// Does by hand what the triggers would.
    async fn notify(&self, payload: &str) -> Result<(), tokio_postgres::Error> {
        if !self.triggers {
            self.session
                .execute(&self.statements.notify, &[&payload])
                .await?;
        }
        Ok(())
    }

    /// The same in one text.
    async fn batch(&self, rows: usize) -> Result<(), tokio_postgres::Error> {
        // A subquery, which is called once: currval by itself is volatile, and would scan the table.
        const INCIDENT: &str = "(SELECT currval('incident_id_seq'))";
        let notify = |payload: String| {
            if self.triggers {
                String::new()
            } else {
                format!("SELECT pg_notify('icinga_desktop_incident', {payload});")
            }
        };
        let mut sql = format!(
            "BEGIN;
             INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('o'), 0, 'crit');{}",
            notify(format!(
                r#"format('{{"tx":"%s","incident_id":%s,"severity":"%s"}}', pg_current_xact_id(), {INCIDENT}, 'crit')"#
            ))
        );
        for what in ["opened", "rule_matched", "escalation_triggered"] {
            sql += &format!(
                "INSERT INTO incident_history (incident_id, time, type) VALUES ({INCIDENT}, 0, '{what}');"
            );
        }
        for contact in 1..=rows {
            sql += &format!(
                "INSERT INTO incident_contact (incident_id, contact_id, role) \
                 VALUES ({INCIDENT}, {contact}, 'recipient') \
                 ON CONFLICT (incident_id, contact_id) DO UPDATE SET role = incident_contact.role;"
            );
        }
        for contact in 1..=rows {
            sql += &format!(
                "INSERT INTO incident_history \
                   (incident_id, contact_id, channel_id, time, message, type, notification_state) \
                 VALUES ({INCIDENT}, {contact}, 1, 0, '{MESSAGE}', 'notified', 'pending');"
            );
            sql += &notify(format!(
                r#"format('{{"tx":"%s","history_id":%s,"incident_id":%s,"contact_id":%s,"state":"%s"}}',
                   pg_current_xact_id(), currval('incident_history_id_seq'), {INCIDENT}, {contact}, 'pending')"#
            ));
        }
        sql += &format!("UPDATE incident SET message = '{MESSAGE}' WHERE id = {INCIDENT}; COMMIT");
        self.session.batch_execute(&sql).await
    }
}

impl Statements {
    async fn prepare(session: &Client) -> Self {
        let prepare = async |sql: &str| session.prepare(sql).await.expect("a statement");
        Self {
            incident: prepare(
                "INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('o'), 0, 'crit') RETURNING id",
            )
            .await,
            history: prepare(
                "INSERT INTO incident_history (incident_id, time, type) VALUES ($1, 0, $2::text::history_type)",
            )
            .await,
            contact: prepare(
                "INSERT INTO incident_contact (incident_id, contact_id, role) VALUES ($1, $2, 'recipient') \
                 ON CONFLICT (incident_id, contact_id) DO UPDATE SET role = incident_contact.role",
            )
            .await,
            notified: prepare(
                "INSERT INTO incident_history \
                   (incident_id, contact_id, channel_id, time, message, type, notification_state) \
                 VALUES ($1, $2, 1, 0, $3, 'notified', 'pending') RETURNING id",
            )
            .await,
            save: prepare("UPDATE incident SET message = $2 WHERE id = $1").await,
            notify: prepare("SELECT pg_notify('icinga_desktop_incident', $1)").await,
        }
    }
}

/// Hears what the daemon would, on a thread of its own: it must not take the writer's.
fn listen(database: &Database) {
    let config = bare::config(database);
    let (ready, listening) = mpsc::channel();
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(async {
                let mut notifications = bare::listen(&config).await;
                let _ = ready.send(());
                while notifications.next().await.is_some() {}
            });
    });
    listening.recv().expect("it listens");
}
