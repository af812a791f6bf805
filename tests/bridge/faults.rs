//! Everything at once: browsers that behave as EventSource does, Icinga writing, and one fault after another.
//!
//! Afterwards each browser must have what its contact was notified about, as the database tells it: nothing lost (an
//! incident's newer event may stand for its older ones), nothing foreign, nothing twice, and no stream ended for good.
//!
//! `FAULTS_SEED` repeats a run's choices; `FAULTS_SECONDS` makes it longer or shorter than a minute.

#![allow(
    clippy::print_stdout,
    reason = "the seed and the figures of a run are what it is run for"
)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::{AGENT, PATIENCE, request};
use crate::common::world::{installed, resource};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Contacts; every fourth has two browsers.
const CONTACTS: usize = 24;
/// Fewer than a browser that comes back is told of, so that no summary stands for an incident.
const INCIDENTS: usize = 16;
/// Writers, as several Icinga daemons on one database.
const WRITERS: usize = 2;
/// Pause between two transactions of a writer.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// What was received within this time before a kill may come again: a third of a second until it counts as delivered, a
/// second until its position is stored.
const FORGIVEN: Duration = Duration::from_secs(2);
/// How often on that way the daemon or the database waits to be woken: for the comment behind an event, for the end of
/// the probe, for the next round of storing, and for the statement there and back.
const WAKE_UPS: u32 = 5;
/// A tab is closed only if nothing came for so long: an event of the last third of a second does not count as delivered
/// yet, and is rightly told again. The rest is for a busy machine.
const QUIET: Duration = Duration::from_millis(700);

/// What a browser has received, by all of its tabs.
#[derive(Default)]
struct Received {
    /// (text, incident, history id, when)
    events: Vec<(String, i64, i64, Instant)>,
    fences: usize,
}

struct Browser {
    contact: i64,
    session_id: String,
    agent: String,
    received: Arc<Mutex<Received>>,
    /// Counted up to make the tabs reload.
    reload: watch::Sender<u64>,
    /// For each tab: the last of these that it has obeyed.
    reloaded: Vec<Arc<AtomicU64>>,
}

/// One tab: an EventSource that opens its stream again and again.
async fn tab(
    address: String,
    request: String,
    received: Arc<Mutex<Received>>,
    mut reload: watch::Receiver<u64>,
    reloaded: Arc<AtomicU64>,
) -> String {
    let mut retry = Duration::from_millis(3000);
    loop {
        // A proxy answers for a daemon that is not there, with a 200 and `retry:`.
        let Ok(socket) = TcpStream::connect(&address).await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        let mut reader = BufReader::new(socket);
        if reader
            .get_mut()
            .write_all(request.as_bytes())
            .await
            .is_err()
        {
            continue;
        }
        let mut status = String::new();
        let answered = reader.read_line(&mut status).await;
        if answered.is_err() || status.is_empty() {
            // The daemon was killed before it answered; a proxy makes a 502 of that, and a 200 of the 502.
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        }
        if !status.starts_with("HTTP/1.1 200 ") {
            return status;
        }
        let mut data: Option<serde_json::Value> = None;
        let mut id = None;
        let reloads = *reload.borrow_and_update();
        reloaded.store(reloads, Ordering::Release);
        let mut reloads_now = false;
        let mut line = String::new();
        loop {
            line.clear();
            tokio::select! {
                read = reader.read_line(&mut line) => {
                    if !matches!(read, Ok(length) if length > 0) {
                        break;
                    }
                }
                () = wants_reload(&mut reload, reloads, &received) => {
                    reloads_now = true;
                    break;
                }
            }
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("retry: ") {
                retry = Duration::from_millis(value.parse().expect("milliseconds"));
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(value).expect("valid JSON"));
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = value.parse().ok();
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                let payload = &data["payload"];
                let text = payload["message"].as_str().unwrap_or("no text").to_owned();
                let incident = payload["incident_id"].as_i64().expect("an incident");
                let mut received = received.lock().expect("not poisoned");
                if text == "fence" {
                    received.fences += 1;
                } else {
                    received.events.push((
                        text,
                        incident,
                        id.take().expect("an id"),
                        Instant::now(),
                    ));
                }
            }
        }
        drop(reader);
        if reloads_now {
            reloaded.store(*reload.borrow(), Ordering::Release);
        }
        // EventSource waits as it was told; a reload takes a good two seconds, too.
        tokio::time::sleep(retry.min(Duration::from_millis(2200))).await;
    }
}

/// Resolves when the tab is to reload and nothing came for a while.
async fn wants_reload(reload: &mut watch::Receiver<u64>, seen: u64, received: &Mutex<Received>) {
    loop {
        let quiet = {
            let received = received.lock().expect("not poisoned");
            received
                .events
                .last()
                .is_none_or(|(.., at)| at.elapsed() >= QUIET)
        };
        if *reload.borrow() > seen {
            if quiet {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else if reload.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Writes as Icinga does until told to stop; survives the database going away.
async fn writer(
    database: Arc<Database>,
    number: usize,
    contacts: Vec<i64>,
    incidents: Vec<i64>,
    seed: u64,
    stop: Arc<AtomicBool>,
) {
    let mut rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1));
    let severities = ["ok", "warning", "crit", "err", "alert"];
    let mut count = 0;
    let mut session = None;
    let mut unanswered: Vec<i64> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(WRITE_EVERY).await;
        let client = match session.take() {
            Some(client) => client,
            None => match database.try_connect().await {
                Some(client) => client,
                None => continue,
            },
        };
        count += 1;
        let text = format!("w{number}e{count}");
        let mut notified = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            notified.push(contacts[rng.random_range(0..contacts.len())]);
        }
        notified.sort_unstable();
        notified.dedup();
        let channels = rng.random_range(1..=2);
        // Each writer its own incidents, as each Icinga daemon has its own sources.
        let own: Vec<i64> = incidents
            .iter()
            .copied()
            .skip(number)
            .step_by(WRITERS)
            .collect();
        let incident = own[rng.random_range(0..own.len())];
        let severity = severities[rng.random_range(0..severities.len())];
        let sql = transaction(incident, severity, &notified, channels, &text);
        if client.batch_execute(&sql).await.is_err() {
            // Whether it was committed is what the database says in the end.
            continue;
        }
        // Channels answer late, and out of order.
        let Ok(rows) = client
            .query(
                "SELECT id FROM incident_history WHERE message = $1 AND type = 'notified'",
                &[&text],
            )
            .await
        else {
            continue;
        };
        unanswered.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        while unanswered.len() > 20 {
            let id = unanswered.swap_remove(rng.random_range(0..unanswered.len()));
            let state = if rng.random_bool(0.9) {
                "sent"
            } else {
                "failed"
            };
            let answer = format!(
                "UPDATE incident_history SET notification_state = '{state}', sent_at = 1 WHERE id = {id}"
            );
            if client.batch_execute(&answer).await.is_err() {
                break;
            }
        }
        session = Some(client);
    }
}

/// One event in Icinga's order: history, contacts, notified rows, the incident last.
fn transaction(
    incident: i64,
    severity: &str,
    contacts: &[i64],
    channels: i64,
    text: &str,
) -> String {
    const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let mut sql = format!(
        "BEGIN; SELECT 1 FROM incident WHERE id = {incident} FOR UPDATE;
         INSERT INTO incident_history (incident_id, time, type, new_severity)
           VALUES ({incident}, {NOW}, 'incident_severity_changed', '{severity}');"
    );
    for contact in contacts {
        for channel in 1..=channels {
            sql.push_str(&format!(
                "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
                   VALUES ({incident}, {contact}, {channel}, {NOW}, '{text}', 'notified', 'pending');"
            ));
        }
    }
    sql.push_str(&format!(
        "UPDATE incident SET severity = '{severity}', message = '{text}' WHERE id = {incident}; COMMIT"
    ));
    sql
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
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

/// How late this machine wakes a program that asked to be woken: a busy one can be late by as much as the times that
/// the test forgives.
struct Lateness {
    worst: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
}

impl Lateness {
    fn measure() -> Self {
        const NAP: Duration = Duration::from_millis(20);
        let this = Self {
            worst: Arc::default(),
            stop: Arc::default(),
        };
        let (worst, stop) = (Arc::clone(&this.worst), Arc::clone(&this.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(NAP);
                let late = start.elapsed().saturating_sub(NAP);
                let mut worst = worst.lock().expect("not poisoned");
                *worst = late.max(*worst);
            }
        });
        this
    }

    fn worst(&self) -> Duration {
        *self.worst.lock().expect("not poisoned")
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Stage {
    cluster: Cluster,
    database: Arc<Database>,
    daemon: Option<Daemon>,
    resource: String,
    port: u16,
    browsers: Vec<Browser>,
    kills: Vec<Instant>,
    rng: StdRng,
}

impl Stage {
    fn start_daemon(&mut self) {
        let config = ConfigDir::new(
            &format!("host = 127.0.0.1\nport = {}", self.port),
            &self.resource,
        );
        self.daemon = Some(Daemon::launch(config));
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(milliseconds))).await;
    }

    async fn terminate(&self, application: &str) {
        if let Some(client) = self.database.try_connect().await {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '{application}'"
            );
            let _ = client.batch_execute(&sql).await;
        }
    }

    async fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Restart => {
                let mut daemon = self.daemon.take().expect("it runs");
                daemon.signal("TERM");
                assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
                self.pause(0..1500).await;
                self.start_daemon();
            }
            Fault::Kill => {
                let mut daemon = self.daemon.take().expect("it runs");
                daemon.signal("KILL");
                daemon.wait();
                // Only now has the last event left it.
                self.kills.push(Instant::now());
                self.pause(0..1500).await;
                self.start_daemon();
            }
            Fault::Pause => {
                let pid = self.daemon.as_ref().expect("it runs").pid();
                let kill = |signal: &str| {
                    std::process::Command::new("kill")
                        .args([signal, &pid.to_string()])
                        .status()
                        .expect("kill")
                };
                kill("-STOP");
                self.pause(200..2500).await;
                kill("-CONT");
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
            Fault::LockedSessions => {
                if let Some(client) = self.database.try_connect().await {
                    let sql = "BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1.5); COMMIT";
                    let _ = client.batch_execute(sql).await;
                }
            }
            Fault::Reloads => {
                for browser in &self.browsers {
                    if self.rng.random_bool(0.4) {
                        browser.reload.send_modify(|count| *count += 1);
                    }
                }
                // A daemon that is stopped meanwhile could not know what arrived.
                let waits = |browser: &Browser| {
                    let wanted = *browser.reload.borrow();
                    let obeyed = |tab: &Arc<AtomicU64>| tab.load(Ordering::Acquire) >= wanted;
                    !browser.reloaded.iter().all(obeyed)
                };
                while self.browsers.iter().any(waits) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Waits until the daemon has all its sessions again: faults come one after another, not one within another.
    async fn recovered(&self) {
        let daemon = self.daemon.as_ref().expect("it runs");
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let log = daemon.log();
            let last = |text: &str| log.rfind(text);
            let up = |connected: &str, lost: &str| last(connected) > last(lost);
            if up("query session connected", "query session lost")
                && up("sign-in session connected", "sign-in session lost")
                && up("is in force", "not listening")
            {
                return;
            }
            assert!(Instant::now() < deadline, "the daemon does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Nothing of ours holds the notification queue back.
    async fn queue_is_read(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = self.database.try_connect().await
                && let Ok(row) = client
                    .query_one("SELECT pg_notification_queue_usage()", &[])
                    .await
                && row.get::<_, f64>(0) == 0.0
            {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the notification queue is not read"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_one_fault_after_another_nothing_is_lost_doubled_or_foreign() {
    let seed = setting("FAULTS_SEED", rand::random::<u32>().into());
    let seconds = setting("FAULTS_SECONDS", 60);
    println!("FAULTS_SEED={seed}");
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
    let mut contacts = Vec::new();
    let mut incidents = Vec::new();
    for number in 0..INCIDENTS {
        incidents.push(icinga.incident(&format!("object{number}"), "ok").await);
    }
    // The newest incident is only for fences: they must not stand for anything else.
    icinga.incident("fence", "ok").await;
    let mut browsers = Vec::new();
    for number in 0..CONTACTS {
        let name = format!("user{number}");
        let contact = icinga.contact(&name).await;
        contacts.push(contact);
        for browser in 0..if number % 4 == 0 { 2 } else { 1 } {
            let agent = format!("{AGENT} {browser}");
            let browser = Browser {
                contact,
                session_id: icinga.sign_in(&name, &agent).await,
                agent,
                received: Arc::default(),
                reload: watch::channel(0).0,
                // Every third one has two tabs open.
                reloaded: (0..if browsers.len() % 3 == 0 { 2 } else { 1 })
                    .map(|_| Arc::default())
                    .collect(),
            };
            browsers.push(browser);
        }
    }
    drop(icinga);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let resource = resource(&database, &role);
    let mut stage = Stage {
        cluster,
        database: Arc::new(database),
        daemon: None,
        resource,
        port,
        browsers,
        kills: Vec::new(),
        rng: StdRng::seed_from_u64(seed),
    };
    stage.start_daemon();
    stage
        .daemon
        .as_ref()
        .expect("started")
        .wait_for_log("ready: ");
    run(&mut stage, &contacts, &incidents, seed, seconds).await;
}

/// Lets browsers, writers and faults loose, and looks at what became of it.
async fn run(stage: &mut Stage, contacts: &[i64], incidents: &[i64], seed: u64, seconds: u64) {
    let address = format!("127.0.0.1:{}", stage.port);
    let mut tabs = JoinSet::new();
    for browser in &stage.browsers {
        for reloaded in &browser.reloaded {
            tabs.spawn(tab(
                address.clone(),
                request(&browser.session_id, &browser.agent),
                Arc::clone(&browser.received),
                browser.reload.subscribe(),
                Arc::clone(reloaded),
            ));
        }
    }
    let daemon = stage.daemon.as_ref().expect("it runs");
    daemon.wait_for_nth_log("stream opened", tabs.len());

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer(
            Arc::clone(&stage.database),
            number,
            contacts.to_vec(),
            incidents.to_vec(),
            seed,
            Arc::clone(&stop),
        ));
    }
    let lateness = Lateness::measure();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut injected = Vec::new();
    while Instant::now() < end {
        stage.pause(300..2500).await;
        let fault = FAULTS[stage.rng.random_range(0..FAULTS.len())];
        injected.push(fault);
        stage.inject(fault).await;
        stage.recovered().await;
        stage.queue_is_read().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.expect("the writer does not fail");
    }
    println!("faults: {injected:?}");

    // Two fences: an event that came back from a dying stream may follow the first.
    for fences in 1..=2 {
        write_fence(stage, contacts).await;
        let deadline = Instant::now() + 2 * PATIENCE;
        while let Some(silent) = stage
            .browsers
            .iter()
            .find(|browser| browser.received.lock().expect("not poisoned").fences < fences)
        {
            if let Some(ended) = tabs.try_join_next() {
                panic!("a stream ended for good: {ended:?}");
            }
            assert!(
                Instant::now() < deadline,
                "contact {} got no event after the last fault",
                silent.contact
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    if let Some(ended) = tabs.try_join_next() {
        panic!("a stream ended for good: {ended:?}");
    }
    let forgiven = FORGIVEN + WAKE_UPS * lateness.worst();
    let truth = truth(stage).await;
    let events: usize = truth.values().map(HashMap::len).sum();
    let mut received = 0;
    let mut problems = Vec::new();
    for browser in &stage.browsers {
        received += browser.received.lock().expect("not poisoned").events.len();
        problems.extend(judge(
            browser,
            &truth[&browser.contact],
            &stage.kills,
            forgiven,
        ));
    }
    println!(
        "{} browsers, {} tabs, {events} events, {received} received, {} faults, {} kills; woken at most {:?} late",
        stage.browsers.len(),
        tabs.len(),
        injected.len(),
        stage.kills.len(),
        lateness.worst()
    );
    assert!(
        problems.is_empty(),
        "FAULTS_SEED={seed}\n{}",
        problems.join("\n")
    );
}

async fn write_fence(stage: &Stage, contacts: &[i64]) {
    let client = stage
        .database
        .try_connect()
        .await
        .expect("the database is back");
    let ids: Vec<String> = contacts.iter().map(i64::to_string).collect();
    let sql = format!(
        "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
         SELECT (SELECT max(id) FROM incident), c, 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 'fence',
           'notified', 'pending' FROM unnest('{{{}}}'::bigint[]) c",
        ids.join(",")
    );
    client
        .batch_execute(&sql)
        .await
        .expect("the fence is written");
}

/// By contact and text: the incident, and the highest id of its rows.
type Truth = HashMap<i64, HashMap<String, (i64, i64)>>;

/// What the contacts were notified about.
async fn truth(stage: &Stage) -> Truth {
    let client = stage
        .database
        .try_connect()
        .await
        .expect("the database is back");
    let sql = "SELECT contact_id, message, incident_id, max(id) FROM incident_history
               WHERE type = 'notified' AND message <> 'fence' GROUP BY 1, 2, 3";
    let rows = client.query(sql, &[]).await.expect("the history");
    let mut truth: Truth = stage
        .browsers
        .iter()
        .map(|b| (b.contact, HashMap::new()))
        .collect();
    for row in rows {
        let of_contact = truth.get_mut(&row.get(0)).expect("a known contact");
        of_contact.insert(row.get(1), (row.get(2), row.get(3)));
    }
    truth
}

/// What is wrong with what a browser received.
fn judge(
    browser: &Browser,
    expected: &HashMap<String, (i64, i64)>,
    kills: &[Instant],
    forgiven: Duration,
) -> Vec<String> {
    let received = browser.received.lock().expect("not poisoned");
    let mut problems = Vec::new();
    let mut problem = |what: &str, text: &str| {
        problems.push(format!(
            "contact {}, agent {}: {what}: {text}",
            browser.contact, browser.agent
        ));
    };
    let mut newest: HashMap<i64, i64> = HashMap::new();
    let mut seen: HashMap<&str, Instant> = HashMap::new();
    for (text, incident, _, at) in &received.events {
        let Some((expected_incident, id)) = expected.get(text) else {
            problem("foreign", text);
            continue;
        };
        if incident != expected_incident {
            problem("of another incident", text);
        }
        let newest = newest.entry(*incident).or_default();
        *newest = (*newest).max(*id);
        if let Some(first) = seen.insert(text, *at) {
            let just_before_a_kill = kills
                .iter()
                .any(|kill| first <= *kill && kill.duration_since(first) <= forgiven);
            if !just_before_a_kill {
                problem(
                    "twice",
                    &format!("{text}, {:?} apart", at.duration_since(first)),
                );
            }
        }
    }
    let texts: HashSet<&str> = received
        .events
        .iter()
        .map(|(text, ..)| text.as_str())
        .collect();
    for (text, (incident, id)) in expected {
        let stood_for = newest.get(incident).is_some_and(|newest| newest >= id);
        if !texts.contains(text.as_str()) && !stood_for {
            problem("lost", text);
        }
    }
    problems
}
