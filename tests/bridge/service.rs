//! The daemon and its service manager, at the protocol: what is sent to `$NOTIFY_SOCKET`, and what SIGHUP does. `tests/machines/`
//! tests the same in a booted systemd.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use crate::common::command::Said;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Icinga, Shape};
use crate::common::postgres::Cluster;
use crate::common::sse::AGENT;
use crate::common::wait::TIMEOUT;
use crate::common::world::{installed, resource};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// The other end of `$NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
    /// Received, but not read yet.
    received: VecDeque<String>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Self {
            socket,
            directory,
            received: VecDeque::new(),
        }
    }

    /// Starts a daemon that this manages.
    fn start(&self, config: ConfigDir) -> Daemon {
        let mut command = config.command(&["run", "--verbose"]);
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        Daemon::spawn(config, command)
    }

    /// The next message that begins with `start`; those before it are discarded.
    async fn wait_for(&mut self, start: &str) -> String {
        loop {
            while let Some(message) = self.received.pop_front() {
                if message.starts_with(start) {
                    return message;
                }
            }
            let mut datagram = vec![0; 4096];
            let length = timeout(TIMEOUT, self.socket.recv(&mut datagram))
                .await
                .unwrap_or_else(|_| panic!("nothing that begins with {start}"))
                .expect("a datagram");
            let text = String::from_utf8_lossy(&datagram[..length]);
            self.received.extend(text.lines().map(str::to_owned));
        }
    }
}

/// Replaces `[daemon]` in the configuration.
fn set_daemon(daemon: &Daemon, section: &str) {
    let file = (daemon.config.path()).join("modules/notifications/config.ini");
    let text = format!("[daemon]\n{section}\n[database]\nresource = \"icinga_notifications\"\n");
    fs::write(file, text).expect("config.ini");
}

#[tokio::test]
async fn systemd_is_notified_of_start_status_watchdog_and_stop() {
    let (database, role) = installed(Cluster::shared(), "manager", Shape::V1_0);
    let mut manager = Manager::new();
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let mut daemon = manager.start(config);
    manager.wait_for("READY=1").await;
    daemon.wait_for_log("ready: ");

    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    icinga.contact("anna").await;
    let session_id = icinga.sign_in("anna", AGENT).await;
    // One that reconnects: the first stream is soon ended.
    let _tab = EventSource::open(&Site::daemon(&daemon.address, AGENT), &session_id).await;
    manager.wait_for("STATUS=1 stream of 1 user").await;
    // Beats continue.
    manager.wait_for("WATCHDOG=1").await;
    manager.wait_for("WATCHDOG=1").await;

    daemon.signal("TERM");
    manager.wait_for("STOPPING=1").await;
    assert!(daemon.wait().success());
}

#[tokio::test]
async fn without_a_database_the_start_is_over_and_the_status_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resource = format!(
        "host = \"{}\"\ndbname = x\nusername = x",
        directory.path().display()
    );
    let mut manager = Manager::new();
    let daemon = manager.start(ConfigDir::new("host = 127.0.0.1\nport = 0", &resource));
    let status = manager.wait_for("STATUS=").await;
    assert_eq!(
        status,
        "STATUS=0 streams of 0 users; waiting for the database"
    );
    manager.wait_for("READY=1").await;
    daemon.wait_for_log("not ready after 10s");
    // A restart would not bring the database back: the watchdog must not try.
    manager.wait_for("WATCHDOG=1").await;
}

#[tokio::test]
async fn a_frozen_daemon_shows_no_life() {
    let (database, role) = installed(Cluster::shared(), "frozen", Shape::V1_0);
    let mut manager = Manager::new();
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = manager.start(config);
    manager.wait_for("WATCHDOG=1").await;
    // Makes only the listener deaf: its session receives nothing more, while all others continue.
    let session = database.connect().await;
    let pid = session
        .text("SELECT pid::text FROM pg_stat_activity WHERE application_name = 'icinga-desktop-bridge listener' AND datname = current_database()")
        .await;
    let frozen = Frozen::new(&pid);
    daemon.wait_for_log("the listener is deaf");
    let lives = |manager: &Manager| {
        manager
            .received
            .iter()
            .filter(|message| *message == "WATCHDOG=1")
            .count()
    };
    let mut datagram = [0; 4096];
    while let Ok(length) = manager.socket.try_recv(&mut datagram) {
        let text = String::from_utf8_lossy(&datagram[..length]);
        manager.received.extend(text.lines().map(str::to_owned));
    }
    // None since the freeze, which lasted for a beat of 10 s and the 10 s in which it was not received.
    assert_eq!(lives(&manager), 0, "{:?}", manager.received);
    drop(frozen);
    // A new session was opened, and receives.
    manager.wait_for("WATCHDOG=1").await;
}

/// A process that is stopped until this is dropped.
struct Frozen(String);

impl Frozen {
    fn new(pid: &str) -> Self {
        Self::signal("-STOP", pid);
        Self(pid.to_owned())
    }

    fn signal(signal: &str, pid: &str) {
        let status = std::process::Command::new("kill")
            .args([signal, pid])
            .status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        Self::signal("-CONT", &self.0);
    }
}

#[tokio::test]
async fn a_reload_applies_to_open_streams() {
    let (database, role) = installed(Cluster::shared(), "reload", Shape::V1_0);
    let mut manager = Manager::new();
    // So long that no comment is written.
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0\nkeep_alive_seconds = 3600",
        &resource(&database, &role),
    );
    let daemon = manager.start(config);
    daemon.wait_for_log("ready: ");
    manager.wait_for("READY=1").await;
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    icinga.contact("anna").await;
    let session_id = icinga.sign_in("anna", AGENT).await;
    let site = Site::daemon(&daemon.address, AGENT);
    let mut tab = EventSource::open(&site, &session_id).await;

    set_daemon(
        &daemon,
        "host = 127.0.0.1\nport = 0\nkeep_alive_seconds = 1",
    );
    daemon.signal("HUP");
    manager.wait_for("RELOADING=1").await;
    manager.wait_for("MONOTONIC_USEC=").await;
    manager.wait_for("READY=1").await;
    daemon.wait_for_log("configuration reloaded: ");
    for _ in 0..2 {
        while tab.block().await.raw != ":\n\n" {}
    }
    assert!(!daemon.log().contains("at a restart"));

    set_daemon(
        &daemon,
        "host = 127.0.0.1\nport = 9\nkeep_alive_seconds = 1",
    );
    daemon.signal("HUP");
    daemon.wait_for_log("other settings have also changed");

    set_daemon(&daemon, "keep_alive_seconds = soon");
    daemon.signal("HUP");
    let line = daemon.wait_for_log("not reloaded, the settings are unchanged");
    assert!(
        line.contains("line 2, [daemon] keep_alive_seconds"),
        "{line}"
    );
    while tab.block().await.raw != ":\n\n" {}
}

#[test]
fn in_the_journal_a_line_has_a_priority_instead_of_a_time() {
    let config = ConfigDir::new("prot = 9001", "dbname = x\nusername = x");
    let log = config.path().join("log");
    let file = File::create(&log).expect("a file");
    let metadata = file.metadata().expect("its metadata");
    let status = config
        .command(&["check", "--config-only"])
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        )
        .stderr(file)
        .output()
        .expect("it runs")
        .status;
    assert!(status.success());
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.starts_with("<4>"), "{text}");
    assert!(text.contains("unknown key prot"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    // Standard error was redirected: that is not the journal.
    let mut command = config.command(&["check", "--config-only"]);
    let text = Said::by(command.env("JOURNAL_STREAM", "1:1")).stderr;
    assert!(text.contains("WARN") && !text.contains("<4>"), "{text}");
}
