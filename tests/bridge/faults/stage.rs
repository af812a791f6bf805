//! The database, the daemon, the browsers, and the faults.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::browser::{Browser, Make, Mishap};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::AGENT;
use crate::common::wait::{TIMEOUT, eventually, eventually_within};
use crate::common::world::{installed, resource};

/// Contacts; every fourth has two browsers.
const CONTACTS: usize = 24;
const INCIDENTS: usize = 16;
/// A browser that returns is sent all of them one by one, and the fences', so that no summary replaces an incident.
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
    /// Clients vanish, and return from another network.
    Vanish,
    /// They stay disconnected for longer than the daemon waits for them.
    StayAway,
    /// Service workers are killed.
    Orphans,
    /// Clients return later than asked.
    LateReturns,
}

const FAULTS: [Fault; 14] = [
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
    Fault::Vanish,
    Fault::StayAway,
    Fault::Orphans,
    Fault::LateReturns,
];

impl Fault {
    /// Whether the daemon runs, but cannot store positions until the fault is over.
    fn hinders(self) -> bool {
        match self {
            Self::Pause
            | Self::TerminateAll
            | Self::TerminateListener
            | Self::TerminateQueries
            | Self::DatabaseRestart
            | Self::DatabaseCrash
            | Self::LockedSessions => true,
            Self::Restart
            | Self::Kill
            | Self::Reloads
            | Self::Vanish
            | Self::StayAway
            | Self::Orphans
            | Self::LateReturns => false,
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
    /// When the daemon could not store positions: it or its database was stopped, disconnected or locked.
    pub(super) hindered: Vec<Range<Instant>>,
    rng: StdRng,
}

impl Stage {
    /// A database with contacts and incidents, signed-in browsers, and a daemon that is ready.
    pub(super) async fn new(seed: u64) -> Self {
        let cluster = Cluster::private();
        let (database, role) = installed(&cluster, "faults", Shape::V1_0);
        // Without it a crash loses the last commits, which were announced.
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
        // The newest incident is only for fences: they must not replace other events.
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

    /// The address of the daemon, at every start.
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

    /// Runs one fault after another for this time, each after the end of the one before.
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
            Fault::Reloads => self.befall(|_| Mishap::Reload).await,
            Fault::Vanish => {
                self.befall(|rng| Mishap::Vanish(milliseconds(rng, 300..4000)))
                    .await
            }
            Fault::StayAway => {
                self.befall(|_| Mishap::Vanish(Duration::from_secs(12)))
                    .await
            }
            Fault::Orphans => self.befall(|_| Mishap::Orphan).await,
            Fault::LateReturns => {
                self.befall(|rng| Mishap::Late(milliseconds(rng, 200..4000)))
                    .await
            }
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

    async fn befall(&mut self, mishap: impl Fn(&mut StdRng) -> Mishap) {
        for browser in &self.browsers {
            if self.rng.random_bool(0.4) {
                browser.suffer(mishap(&mut self.rng));
            }
        }
        // A daemon that is stopped meanwhile could not know what arrived. Twice the timeout, because a tab waits until everything
        // it has read is acknowledged.
        eventually_within(2 * TIMEOUT, async || {
            match self.browsers.iter().find(|browser| browser.is_spared()) {
                None => Ok(()),
                Some(browser) => Err(format!(
                    "contact {}: nothing befalls its tabs",
                    browser.contact
                )),
            }
        })
        .await;
    }

    /// Waits until the daemon has all its sessions again: faults do not overlap.
    async fn recovered(&self) {
        eventually_within(2 * TIMEOUT, async || {
            let log = self.daemon().log();
            let last = |text: &str| log.rfind(text);
            for (connected, lost) in [
                ("query session connected", "query session lost"),
                ("sign-in session connected", "sign-in session lost"),
                ("and the other channels", "not listening"),
            ] {
                if last(connected) <= last(lost) {
                    return Err(format!("the daemon does not recover: {lost}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Nothing of this test holds back the notification queue.
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

    /// Waits until the stored position of every browser has every row that notifies its contact.
    pub(super) async fn everything_is_acknowledged(&self) {
        let acknowledged = "NOT EXISTS (
             SELECT FROM browser_session s
             JOIN contact c ON c.username = s.username
             JOIN icinga_desktop.browser_position p ON p.browser = sha256(s.php_session_id::bytea)
             JOIN incident_history h ON h.contact_id = c.id
             WHERE h.type = 'notified' AND h.notification_state IN ('pending', 'sent')
               AND h.id > p.floor AND h.id <> ALL (p.above))";
        self.database.eventually(acknowledged).await;
    }
}

fn milliseconds(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

/// The contacts, and their browsers, signed in.
async fn audience(icinga: &Icinga) -> (Vec<i64>, Vec<Browser>) {
    let (mut contacts, mut browsers) = (Vec::new(), Vec::new());
    for number in 0..CONTACTS {
        let name = format!("user{number}");
        let contact = icinga.contact(&name).await;
        contacts.push(contact);
        for browser in 0..if number % 4 == 0 { 2 } else { 1 } {
            // Half of them each; the lines are of different lengths.
            let (make, name_of_make) = if browsers.len() % 2 == 0 {
                let round_trip = Duration::from_millis(25 * (number as u64 % 8));
                (Make::Chromium { round_trip }, "Chrome/156.0")
            } else {
                (Make::Firefox, "Firefox/153.0")
            };
            let agent = format!("{AGENT} {name_of_make} {browser}");
            let session_id = icinga.sign_in(&name, &agent).await;
            // Every third one has two tabs open.
            let tabs = if browsers.len() % 3 == 0 { 2 } else { 1 };
            browsers.push(Browser::new(contact, session_id, agent, make, tabs));
        }
    }
    (contacts, browsers)
}
