//! Shared by the benches: the daemon as in production, thousands of clients, and the recording of figures.
#![allow(dead_code, reason = "each bench compiles all of this and uses a part")]

pub(crate) mod crowd;
pub(crate) mod figures;
pub(crate) mod record;

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::postgres::Database;
use crate::common::world::resource;

/// The `names` given on the command line, or all, in their order. `None` if it has an unknown `what`: then the known ones were
/// printed.
pub(crate) fn chosen(what: &str, names: &[&'static str]) -> Option<Vec<&'static str>> {
    // Cargo adds --bench.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("no {what} {unknown:?}; there are: {}", names.join(" "));
        return None;
    }
    let is_wanted = |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    Some(names.iter().copied().filter(is_wanted).collect())
}

/// A daemon that is ready and logs as in production.
pub(crate) fn daemon(database: &Database, role: &str) -> Daemon {
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(database, role));
    let daemon = Daemon::launch_with(config, &["run"]);
    daemon.wait_for_log("ready: ");
    daemon
}
