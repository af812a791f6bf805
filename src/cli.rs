//! The command line: `--help` and the man page come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::check::Address;
use crate::config::Secret;
use crate::observe::{SLOW, TOO_SLOW};

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
  0   asked to stop, all checks hold, somebody got the test notification, or nothing is wrong for the user
  1   failed while running; starting again may help
  2   wrong command line
  78  configuration or database installation has to be changed first
check-health ends as plugins for Icinga do: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";

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
        /// What to follow.
        #[command(flatten)]
        stream: StreamArgs,
    },
    /// Ask the running daemon how it is, as a plugin for Icinga
    ///
    /// CRITICAL: the daemon does not answer or is not ready, or events are late (--critical). WARNING: events are late (--warning),
    /// events of the last 5 minutes got no receipt, or more than 90 % of the places for streams are taken. UNKNOWN: that could not
    /// be found out. It waits at most 10 seconds.
    CheckHealth(HealthArgs),
    /// Show a user's open browsers a test notification, and say who got it
    SendTest {
        /// The Icinga Web user
        user: String,
    },
    /// Say why a user gets popups, or not
    ///
    /// Looks at the contact, asks every bridge on the database about the user's browsers and their streams, and says what became of
    /// the last ten notifications. A line each: ok, or what to do. No session id and no text of a notification is written
    Explain {
        /// The Icinga Web user
        user: String,
        /// Write one document of JSON, for tools
        #[arg(long)]
        json: bool,
    },
}

/// The flags of `check-health`. They are read by the command itself: what is wrong with them is UNKNOWN, and 2, with which clap
/// ends, is CRITICAL.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where the daemon is asked: an IP address and a port, or the path of a Unix socket [default: admin in config.ini]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// WARNING if the latency is outside of this range, in seconds
    ///
    /// The latency is what 95 of 100 events of the last 5 minutes did not exceed, from hearing of an event to writing it to a
    /// browser. The range is one of the Monitoring Plugins: 1 alerts above 1, 1: below it, @1:2 inside.
    #[arg(
        long,
        value_name = "RANGE",
        default_value_t = SLOW.to_string(),
        allow_hyphen_values = true
    )]
    pub warning: String,
    /// CRITICAL if it is outside of this one
    #[arg(
        long,
        value_name = "RANGE",
        default_value_t = TOO_SLOW.to_string(),
        allow_hyphen_values = true
    )]
    pub critical: String,
}

/// The flags of `check` that follow a stream.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Follow a real stream, too: Icinga Web's address, as browsers use it
    ///
    /// For half a minute the check stands in for a browser that is signed in, through the reverse proxy, and says whether the
    /// stream is let in, buffered or cut. When the daemon ends the stream, it comes back like a browser, which acknowledges what
    /// it has read. Meanwhile it takes one of the browser's two places, and may be given an event in place of a tab; then it says
    /// so. The certificate has to be of an authority that this machine or the file in $SSL_CERT_FILE
    /// knows.
    #[arg(
        long,
        value_name = "URL",
        value_parser = Address::parse,
        requires = "cookie",
        conflicts_with = "config_only"
    )]
    pub url: Option<Address>,
    /// That browser's session id, the value of its cookie Icingaweb2; `-` reads it from standard input
    ///
    /// Whoever may list processes sees what is on a command line: `-` keeps the session id from them.
    #[arg(long, value_name = "SESSIONID", requires = "url", value_parser = secret, allow_hyphen_values = true)]
    pub cookie: Option<Secret>,
    /// That browser's user agent [default: the one that it signed in with]
    #[arg(long, value_name = "UA", requires = "url")]
    pub user_agent: Option<String>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
