//! The commands that end by themselves, and how they say what is wrong.

pub mod check;
pub mod check_health;
pub mod explain;
mod problem;
pub mod send_test;

use problem::Problem;

/// Nobody can be asked.
const NO_BRIDGE: &str = "no bridge listens on this database: is icinga-desktop-bridge running (systemctl status \
    icinga-notifications-web), and is this the configuration that it runs with?";
