//! A private server: started, stopped, crashed, frozen and promoted as tests need it.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::database::Database;
use super::endpoint::Endpoint;
use super::guardian::guard;
use super::programs::server_programs;
use super::{SUPERUSER, free_port};
use crate::common::guardian::Guardian;

/// A private PostgreSQL server, stopped and removed when this is dropped or the process ends, in any way.
pub(crate) struct Cluster {
    endpoint: Arc<Endpoint>,
    databases: AtomicUsize,
    // Dropped last: it removes what the rest refers to.
    _guardian: Guardian,
}

impl Cluster {
    /// The server that all tests of this binary share, started by the first that asks.
    ///
    /// # Panics
    ///
    /// If PostgreSQL's server programs are missing or do not start; the message says what to install.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::private)
    }

    /// A server for one test that stops or breaks it.
    ///
    /// # Panics
    ///
    /// As [`Cluster::shared`].
    pub(crate) fn private() -> Self {
        Self::started(Endpoint::initialize)
    }

    /// A standby of `primary`, streaming from it, and open for queries.
    ///
    /// # Panics
    ///
    /// As [`Cluster::shared`].
    pub(crate) fn standby_of(primary: &Self) -> Self {
        Self::started(|endpoint| endpoint.copy(&primary.endpoint))
    }

    /// A server whose data directory `fill` creates.
    fn started(fill: impl FnOnce(&Endpoint)) -> Self {
        // Before there is a directory: it panics if there is no server.
        let programs = server_programs();
        let directory = tempfile::Builder::new()
            .prefix("icinga-desktop-test-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let owner = std::fs::metadata(&directory)
            .expect("the directory just made")
            .uid();
        let endpoint = Arc::new(Endpoint {
            programs,
            through_runuser: owner == 0,
            port: AtomicU32::new(0),
            directory,
        });
        let guardian = guard(&endpoint);
        endpoint.own_directory();
        fill(&endpoint);
        let cluster = Self {
            endpoint,
            databases: AtomicUsize::new(0),
            _guardian: guardian,
        };
        // Between finding a free port and binding it, another program may take it.
        for attempt in 1.. {
            cluster
                .endpoint
                .port
                .store(free_port().into(), Ordering::Relaxed);
            match cluster.try_start() {
                Ok(()) => break,
                Err(log) => assert!(attempt < 5, "PostgreSQL does not start:\n{log}"),
            }
        }
        cluster
    }

    /// Starts a stopped server again, on the same port.
    pub(crate) fn start(&self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL does not start again:\n{log}");
        }
    }

    /// Stops the server as a crash does: at once, without notifying its clients.
    pub(crate) fn crash(&self) {
        self.pg_ctl(&["-m", "immediate", "stop"]);
    }

    /// Stops the server as an administrator does: sessions are terminated and notified.
    pub(crate) fn stop(&self) {
        self.pg_ctl(&["-m", "fast", "stop"]);
    }

    /// [`Cluster::stop`] and [`Cluster::start`].
    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.pg_ctl(&["promote"]);
    }

    /// Stops every process of the server where it is, as on a machine that hangs. They continue when the result is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let postmaster = self.pids()[0];
        let mut frozen = Frozen(vec![postmaster]);
        // The postmaster first: then there are no new children.
        signal("STOP", &frozen.0);
        let children = self.pids().split_off(1);
        signal("STOP", &children);
        frozen.0.extend(children);
        frozen
    }

    /// Like [`Cluster::freeze`], but only these processes of the server.
    pub(crate) fn freeze_only(&self, pids: Vec<u32>) -> Frozen {
        let all = self.pids();
        assert!(
            pids.iter().all(|pid| all.contains(pid)),
            "not processes of the server: {pids:?}"
        );
        let frozen = Frozen(pids);
        signal("STOP", &frozen.0);
        frozen
    }

    /// The server's processes, the postmaster first.
    fn pids(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.endpoint.data().join("postmaster.pid"))
            .expect("the server runs");
        let postmaster: u32 = file
            .lines()
            .next()
            .and_then(|line| line.parse().ok())
            .expect("a process id");
        let mut pids = vec![postmaster];
        pids.extend(children_of(postmaster));
        pids
    }

    /// The copy on this server of the database `original` of another one.
    pub(crate) fn same_database(&self, original: &Database) -> Database {
        Database {
            endpoint: Arc::clone(&self.endpoint),
            name: original.name.clone(),
        }
    }

    /// The port of the server on 127.0.0.1, where [`SUPERUSER`] needs [`PASSWORD`].
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// Creates an empty database with citext in it; its name begins with `hint`.
    pub(crate) fn database(&self, hint: &str) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let database = |name: String| Database {
            endpoint: Arc::clone(&self.endpoint),
            name,
        };
        let created = database(format!("{hint}_{number}"));
        // template0, because nobody can be connected to it, which would make this fail.
        database(SUPERUSER.to_owned())
            .psql()
            .command(&format!(
                "CREATE DATABASE \"{}\" TEMPLATE template0",
                created.name
            ))
            .success();
        created
            .psql()
            .command("CREATE EXTENSION citext WITH SCHEMA public")
            .success();
        created
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let output = self
            .endpoint
            .server_command("pg_ctl")
            .arg("-D")
            .arg(self.endpoint.data())
            .arg("-w")
            .args(arguments)
            .output()
            .expect("pg_ctl runs");
        assert!(
            output.status.success(),
            "pg_ctl {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the server, or returns its log.
    fn try_start(&self) -> Result<(), String> {
        let log = self.endpoint.directory.join("log");
        let status = self
            .endpoint
            .server_command("pg_ctl")
            .arg("-D")
            .arg(self.endpoint.data())
            .args(["-w", "-l"])
            .arg(&log)
            .args(["-o", &format!("-p {}", self.port()), "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl runs");
        if status.success() {
            return Ok(());
        }
        Err(std::fs::read_to_string(log).unwrap_or_else(|error| format!("no log: {error}")))
    }
}

/// A server that [`Cluster::freeze`] stopped.
pub(crate) struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

/// Sends a signal by name. A process may have ended meanwhile.
fn signal(name: &str, pids: &[u32]) {
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may contain anything; the state and the parent follow it.
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        behind_name.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .collect()
}
