//! What the benches share: the daemon as it is in production, clients by the thousand, and what becomes of figures.
#![allow(dead_code, reason = "each bench compiles all of this and uses a part")]

pub(crate) mod crowd;
pub(crate) mod figures;
pub(crate) mod record;

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::postgres::Database;
use crate::common::world::resource;

/// A daemon that logs as it does in production, ready.
pub(crate) fn daemon(database: &Database, role: &str) -> Daemon {
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(database, role));
    let daemon = Daemon::launch_with(config, &["run"]);
    daemon.wait_for_log("ready: ");
    daemon
}
