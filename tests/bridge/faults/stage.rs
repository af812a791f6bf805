//! The database, the daemon and the browsers, and the faults that befall them.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::browser::Browser;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::AGENT;
use crate::common::wait::{PATIENCE, eventually, eventually_within};
use crate::common::world::{installed, resource};

/// Contacts; every fourth has two browsers.
const CONTACTS: usize = 24;
const INCIDENTS: usize = 16;
/// A browser that comes back is sent them all one by one, and the fences', so that no summary stands for an incident.
const REPLAY_INCIDENTS: usize = INCIDENTS + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Restart,
    Kill,
    Pause,
    TerminateAll,
    TerminateListener,
    TerminateQueries,
    DatabaseRestart,
    DatabaseCrash,
    LockedSessions,
    Reloads,
}

const FAULTS: [Fault; 10] = [
    Fault::Restart,
    Fault::Kill,
    Fault::Pause,
    Fault::TerminateAll,
    Fault::TerminateListener,
    Fault::TerminateQueries,
    Fault::DatabaseRestart,
    Fault::DatabaseCrash,
    Fault::LockedSessions,
    Fault::Reloads,
];

impl Fault {
    /// Whether the daemon runs on, but cannot store what it has delivered until the fault is over.
    fn hinders(self) -> bool {
        match self {
            Self::Pause
            | Self::TerminateAll
            | Self::TerminateListener
            | Self::TerminateQueries
            | Self::DatabaseRestart
            | Self::DatabaseCrash
            | Self::LockedSessions => true,
            Self::Restart | Self::Kill | Self::Reloads => false,
        }
    }
}

pub(super) struct Stage {
    cluster: Cluster,
    pub(super) database: Arc<Database>,
    pub(super) daemon: Option<Daemon>,
    resource: String,
    port: u16,
    pub(super) contacts: Vec<i64>,
    pub(super) incidents: Vec<i64>,
    pub(super) browsers: Vec<Browser>,
    pub(super) kills: Vec<Instant>,
    /// When the daemon could not store what it had delivered: it or its database was stopped, cut off, or locked.
    pub(super) hindered: Vec<Range<Instant>>,
    rng: StdRng,
}

impl Stage {
    /// A database with contacts and incidents, signed-in browsers, and a daemon that is ready.
    pub(super) async fn new(seed: u64) -> Self {
        let cluster = Cluster::private();
        let (database, role) = installed(&cluster, "faults", Shape::V1_0);
        // Without it a crash takes back what was committed, and announced, last.
        for sql in [
            "ALTER SYSTEM SET synchronous_commit = on",
            "SELECT pg_reload_conf()",
        ] {
            database.psql().command(sql).success();
        }
        let icinga = Icinga::new(database.connect().await, Shape::V1_0);
        let mut incidents = Vec::new();
        for number in 0..INCIDENTS {
            incidents.push(icinga.incident(&format!("object{number}"), "ok").await);
        }
        // The newest incident is only for fences: they must not stand for anything else.
        icinga.incident("fence", "ok").await;
        let (contacts, browsers) = audience(&icinga).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let mut stage = Self {
            resource: resource(&database, &role),
            cluster,
            database: Arc::new(database),
            daemon: None,
            port,
            contacts,
            incidents,
            browsers,
            kills: Vec::new(),
            hindered: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        stage.start_daemon();
        stage.daemon().wait_for_log("ready: ");
        stage
    }

    /// Where the daemon listens, each time.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    fn start_daemon(&mut self) {
        let config = ConfigDir::new(
            &format!(
                "host = 127.0.0.1\nport = {}\nreplay_incidents = {REPLAY_INCIDENTS}",
                self.port
            ),
            &self.resource,
        );
        self.daemon = Some(Daemon::launch(config));
    }

    /// One fault after another for so long, each of them over before the next.
    pub(super) async fn suffer(&mut self, long: Duration) -> Vec<Fault> {
        let end = Instant::now() + long;
        let mut injected = Vec::new();
        while Instant::now() < end {
            self.pause(300..2500).await;
            let fault = FAULTS[self.rng.random_range(0..FAULTS.len())];
            injected.push(fault);
            let begin = Instant::now();
            self.inject(fault).await;
            self.recovered().await;
            if fault.hinders() {
                self.hindered.push(begin..Instant::now());
            }
            self.queue_is_read().await;
        }
        injected
    }

    async fn pause(&mut self, milliseconds: Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(milliseconds))).await;
    }

    async fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Restart => self.restart_daemon().await,
            Fault::Kill => self.kill_daemon().await,
            Fault::Pause => {
                self.daemon().signal("STOP");
                self.pause(200..2500).await;
                self.daemon().signal("CONT");
            }
            Fault::TerminateAll => self.terminate("icinga-desktop-bridge%").await,
            Fault::TerminateListener => self.terminate("icinga-desktop-bridge listener").await,
            Fault::TerminateQueries => self.terminate("icinga-desktop-bridge query").await,
            Fault::DatabaseRestart => self.cluster.restart(),
            Fault::DatabaseCrash => {
                self.cluster.crash();
                self.pause(0..1000).await;
                self.cluster.start();
            }
            Fault::LockedSessions => self.lock_sessions().await,
            Fault::Reloads => self.reload_tabs().await,
        }
    }

    async fn restart_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.signal("TERM");
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        self.pause(0..1500).await;
        self.start_daemon();
    }

    async fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.signal("KILL");
        daemon.wait();
        // Only now has the last event left it.
        self.kills.push(Instant::now());
        self.pause(0..1500).await;
        self.start_daemon();
    }

    async fn terminate(&self, application: &str) {
        if let Some(client) = self.database.try_connect().await {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '{application}'"
            );
            let _ = client.batch_execute(&sql).await;
        }
    }

    async fn lock_sessions(&self) {
        if let Some(client) = self.database.try_connect().await {
            let sql = "BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1.5); COMMIT";
            let _ = client.batch_execute(sql).await;
        }
    }

    async fn reload_tabs(&mut self) {
        for browser in &self.browsers {
            if self.rng.random_bool(0.4) {
                browser.reload();
            }
        }
        // A daemon that is stopped meanwhile could not know what arrived. Twice the patience, because a tab that gets
        // many events waits for a quiet moment.
        eventually_within(2 * PATIENCE, async || {
            match self.browsers.iter().find(|browser| browser.is_reloading()) {
                None => Ok(()),
                Some(browser) => Err(format!(
                    "contact {} does not reload its tabs",
                    browser.contact
                )),
            }
        })
        .await;
    }

    /// Waits until the daemon has all its sessions again: faults come one after another, not one within another.
    async fn recovered(&self) {
        eventually_within(2 * PATIENCE, async || {
            let log = self.daemon().log();
            let last = |text: &str| log.rfind(text);
            for (connected, lost) in [
                ("query session connected", "query session lost"),
                ("sign-in session connected", "sign-in session lost"),
                ("is in force", "not listening"),
            ] {
                if last(connected) <= last(lost) {
                    return Err(format!("the daemon does not recover: {lost}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Nothing of ours holds the notification queue back.
    async fn queue_is_read(&self) {
        eventually(async || {
            let client = self.database.try_connect().await;
            let client = client.ok_or_else(|| "the database is away".to_owned())?;
            let usage = "SELECT pg_notification_queue_usage()";
            let row = client.query_one(usage, &[]).await;
            let usage: f64 = row.map_err(|error| error.to_string())?.get(0);
            if usage == 0.0 {
                Ok(())
            } else {
                Err(format!("the notification queue is not read: {usage}"))
            }
        })
        .await;
    }

    /// Notifies every contact of the fences' incident.
    pub(super) async fn write_fence(&self) {
        let ids: Vec<String> = self.contacts.iter().map(i64::to_string).collect();
        let sql = format!(
            "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
             SELECT (SELECT max(id) FROM incident), c, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'fence',
               'notified', 'pending' FROM unnest('{{{}}}'::bigint[]) c",
            ids.join(",")
        );
        self.database.connect().await.run(&sql).await;
    }
}

/// The contacts, and their browsers, signed in.
async fn audience(icinga: &Icinga) -> (Vec<i64>, Vec<Browser>) {
    let (mut contacts, mut browsers) = (Vec::new(), Vec::new());
    for number in 0..CONTACTS {
        let name = format!("user{number}");
        let contact = icinga.contact(&name).await;
        contacts.push(contact);
        for browser in 0..if number % 4 == 0 { 2 } else { 1 } {
            let agent = format!("{AGENT} {browser}");
            let session_id = icinga.sign_in(&name, &agent).await;
            // Every third one has two tabs open.
            let tabs = if browsers.len() % 3 == 0 { 2 } else { 1 };
            browsers.push(Browser::new(contact, session_id, agent, tabs));
        }
    }
    (contacts, browsers)
}
