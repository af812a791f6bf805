//! The command line: `--help` and the man page come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Desktop notifications for Icinga Notifications, at once: a bridge from PostgreSQL NOTIFY to
/// Server-Sent Events.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

const AFTER_HELP: &str = "\
Files:
  DIR/modules/notifications/config.ini   [daemon] host, port; [database] resource
  DIR/resources.ini                      how to reach the database

Exit codes:
  0   asked to stop, or all checks hold
  1   failed while running; starting again may help
  2   wrong command line
  78  configuration or database installation has to be changed first";

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Icinga Web's configuration directory [default: $ICINGAWEB_CONFIGDIR, else /etc/icingaweb2]
    #[arg(long, value_name = "DIR", global = true)]
    pub config_dir: Option<PathBuf>,
    /// Log each stream and each refused browser, too
    #[arg(long, global = true)]
    pub verbose: bool,
    /// Log what the libraries say, too; $RUST_LOG overrides both
    #[arg(long, global = true)]
    pub debug: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    Run,
    /// Check configuration, database, triggers and rights, and say what to do
    Check {
        /// Only print the effective settings, without connecting
        #[arg(long)]
        config_only: bool,
    },
    /// Show a user's open browsers a test notification, and say who got it
    SendTest {
        /// The Icinga Web user
        user: String,
    },
}
