//! The subcommands other than `run`, and how they report problems.

pub mod check;
pub mod check_health;
pub mod explain;
mod problem;
pub mod send_test;

use problem::Problem;

/// The advice if no bridge can be asked.
const NO_BRIDGE: &str = "no bridge listens on this database: is icinga-desktop-bridge running (systemctl status \
    icinga-notifications-web), and does it use this configuration?";
