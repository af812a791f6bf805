//! What is read of the machine, and how figures are put together.

use std::fs;
use std::time::Duration;

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

    /// The value that this many percent of the others do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    /// How many of them, of 1, are not above that.
    pub(crate) fn share_up_to(&self, limit: f64) -> f64 {
        self.0.partition_point(|value| *value <= limit) as f64 / self.0.len() as f64
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

/// The load averages, so that a reader sees whether somebody else was at work.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What an environment variable says instead of the default.
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

fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"))
        .expect(name)
        .parse()
        .expect("a number");
    kilobytes * 1024
}

/// Processor time of a process's threads so far. Of /proc/PID/task and not of /proc/PID/stat, which counts in ticks of
/// ten milliseconds.
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

/// Processor time of a server's processes so far.
pub(crate) fn server_cpu(database: &Database) -> Duration {
    let file = database.socket_directory().join("data/postmaster.pid");
    let file = fs::read_to_string(file).expect("the server runs");
    let postmaster = file.lines().next().expect("its process id");
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))
        .unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(cpu)
        .sum()
}

/// Processor time of everybody who takes part, to see who is the bottleneck.
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

    /// What was spent since, in milliseconds.
    pub(crate) fn since(&self, earlier: &Self) -> String {
        format!(
            "processor time: daemon {:.0} ms, PostgreSQL {:.0} ms, this program {:.0} ms",
            milliseconds(self.daemon.saturating_sub(earlier.daemon)),
            milliseconds(self.server.saturating_sub(earlier.server)),
            milliseconds(self.clients.saturating_sub(earlier.clients)),
        )
    }
}
