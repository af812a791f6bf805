//! The command line. `--help` and the man page are generated from these definitions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::check::Address;
use crate::config::Secret;
use crate::observe::{SLOW, TOO_SLOW};

/// Sends Icinga notifications to browsers as soon as they are written: a bridge from PostgreSQL NOTIFY to Server-Sent Events.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Flags that every command accepts.
    #[command(flatten)]
    pub common: Common,
}

const AFTER_HELP: &str = "\
Files:
  DIR/modules/notifications/config.ini   [daemon] host, port; [database] resource
  DIR/resources.ini                      how to reach the database

Exit codes:
  0   stopped by a signal; or for a command: all checks passed, a browser received the test, or explain found nothing wrong
  1   failed; a restart may help
  2   wrong command line
  78  correct the configuration or the installation in the database first
check-health uses the exit codes of monitoring plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Icinga Web's configuration directory [default: $ICINGAWEB_CONFIGDIR, else /etc/icingaweb2]
    #[arg(long, value_name = "DIR", global = true)]
    pub config_dir: Option<PathBuf>,
    /// Also log each stream and each refused browser
    #[arg(long, global = true)]
    pub verbose: bool,
    /// Also log the messages of libraries; $RUST_LOG overrides both
    #[arg(long, global = true)]
    pub debug: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    Run,
    /// Check configuration, database, triggers and rights, and print what to fix
    Check {
        /// Only print the effective settings, without connecting
        #[arg(long)]
        config_only: bool,
        /// Flags to follow a stream.
        #[command(flatten)]
        stream: StreamArgs,
    },
    /// Check the health of the running daemon, as a monitoring plugin for Icinga
    ///
    /// CRITICAL: the daemon does not answer or is not ready, or the latency is outside the --critical range. WARNING: the latency
    /// is outside the --warning range, events of the last 5 minutes got no receipt, or more than 90 % of the possible streams are
    /// open. UNKNOWN: the check itself failed. It waits at most 10 seconds.
    CheckHealth(HealthArgs),
    /// Send a test notification to a user's open browsers, and report which of them received it
    SendTest {
        /// The Icinga Web user
        user: String,
    },
    /// Explain why a user does or does not get popups
    ///
    /// Checks the contact, asks every bridge on the database about the user's browsers and their streams, and reports what
    /// happened to the last ten notifications. Each line says ok or what to do. No session id and no notification text is printed
    Explain {
        /// The Icinga Web user
        user: String,
        /// Print one JSON document, for tools
        #[arg(long)]
        json: bool,
    },
}

/// The flags of `check-health`. The command parses them itself: an invalid one must end with 3, UNKNOWN, but clap exits with 2,
/// which is CRITICAL.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where to ask the daemon: an IP address and a port, or the path of a Unix socket [default: admin in config.ini]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// WARNING if the latency in seconds is outside this range
    ///
    /// 95 % of the events of the last 5 minutes had at most this latency, measured from receiving the bell to writing the event
    /// to a browser. The range has the syntax of the Monitoring Plugins: 1 alerts above 1, 1: alerts below 1, @1:2 alerts inside.
    #[arg(
        long,
        value_name = "RANGE",
        default_value_t = SLOW.to_string(),
        allow_hyphen_values = true
    )]
    pub warning: String,
    /// CRITICAL if the latency in seconds is outside this range
    #[arg(
        long,
        value_name = "RANGE",
        default_value_t = TOO_SLOW.to_string(),
        allow_hyphen_values = true
    )]
    pub critical: String,
}

/// The flags of `check` to follow a stream.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Also follow a real stream: Icinga Web's address, as browsers use it
    ///
    /// For half a minute the check acts as a signed-in browser, through the reverse proxy, and reports whether the stream is
    /// accepted, buffered or cut. When the daemon ends the stream, the check reconnects like a browser, which acknowledges what
    /// it has read. Meanwhile it uses one of the browser's two places and may receive an event instead of a tab; it reports
    /// that. The certificate must be signed by an authority known to this machine or listed in the file $SSL_CERT_FILE.
    #[arg(
        long,
        value_name = "URL",
        value_parser = Address::parse,
        requires = "cookie",
        conflicts_with = "config_only"
    )]
    pub url: Option<Address>,
    /// Session id of a signed-in browser: the value of its cookie Icingaweb2; `-` reads it from standard input
    ///
    /// Users that can list processes see the command line: use `-` to hide the session id from them.
    #[arg(long, value_name = "SESSIONID", requires = "url", value_parser = secret, allow_hyphen_values = true)]
    pub cookie: Option<Secret>,
    /// User agent of that browser [default: the one that it signed in with]
    #[arg(long, value_name = "UA", requires = "url")]
    pub user_agent: Option<String>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
