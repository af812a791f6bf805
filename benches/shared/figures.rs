//! Readings of the machine, and how figures are combined.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::common::postgres::Database;

/// Values in ascending order.
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that this percentage of the others do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    /// The share of values, from 0 to 1, that are not above that.
    pub(crate) fn share_up_to(&self, limit: f64) -> f64 {
        self.0.partition_point(|value| *value <= limit) as f64 / self.0.len() as f64
    }

    /// All of them.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn min(&self) -> f64 {
        self.percentile(0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.percentile(100)
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// The load averages, so that a reader sees other load.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The value of an environment variable, or the default.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect(name))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// Memory that a process shares with no other, in bytes: without a server's shared buffers.
pub(crate) fn private(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

/// Resident memory of several processes together, in bytes: shared memory counts once.
pub(crate) fn resident_together(pids: &[u32]) -> u64 {
    let one = |&pid: &u32| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
    pids.iter().map(one).sum()
}

fn status(pid: u32, name: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), name)
}

/// A field of a file in /proc with kilobytes, in bytes.
fn field(file: &str, name: &str) -> u64 {
    let status = fs::read_to_string(file).expect("the process lives");
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"))
        .expect(name)
        .parse()
        .expect("a number");
    kilobytes * 1024
}

/// CPU time of a process's threads so far. From /proc/PID/task and not from /proc/PID/stat, which counts in ticks of ten
/// milliseconds.
pub(crate) fn cpu(pid: u32) -> Duration {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // A thread may end in between.
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += schedstat
            .split(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}

/// CPU time of a server's processes so far.
pub(crate) fn server_cpu(database: &Database) -> Duration {
    let file = database.socket_directory().join("data/postmaster.pid");
    let postmaster = pid_in(&file).expect("the server runs");
    children(postmaster).into_iter().map(cpu).sum()
}

/// The process id in the first line of a file, once it exists.
pub(crate) fn pid_in(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let pids = children.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// CPU time of all participants, to find the bottleneck.
pub(crate) struct Effort {
    daemon: Duration,
    server: Duration,
    clients: Duration,
}

impl Effort {
    pub(crate) fn so_far(daemon: u32, database: &Database) -> Self {
        Self {
            daemon: cpu(daemon),
            server: server_cpu(database),
            clients: cpu(std::process::id()),
        }
    }

    /// The CPU time since then.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let spent =
            |now: Duration, earlier: Duration| milliseconds(now.saturating_sub(earlier)).round();
        Spent {
            daemon: spent(self.daemon, earlier.daemon),
            server: spent(self.server, earlier.server),
            clients: spent(self.clients, earlier.clients),
        }
    }
}

/// CPU time of all participants, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spent {
    #[serde(rename = "daemon_cpu_ms")]
    pub(crate) daemon: f64,
    #[serde(rename = "postgresql_cpu_ms")]
    pub(crate) server: f64,
    #[serde(rename = "bench_cpu_ms")]
    pub(crate) clients: f64,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "processor time: daemon {} ms, PostgreSQL {} ms, this program {} ms",
            self.daemon, self.server, self.clients
        )
    }
}
