//! The command line: flags, logging, exit code. Everything else is the library's.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use icinga_desktop_bridge::check;
use icinga_desktop_bridge::config::{self, Config, Loaded};
use icinga_desktop_bridge::lifecycle::{self, Exit};

/// Desktop notifications for Icinga Notifications, at once: a bridge from PostgreSQL NOTIFY to
/// Server-Sent Events.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
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

#[derive(Debug, Args)]
struct Common {
    /// Icinga Web's configuration directory [default: $ICINGAWEB_CONFIGDIR, else /etc/icingaweb2]
    #[arg(long, value_name = "DIR", global = true)]
    config_dir: Option<PathBuf>,
    /// Log each stream and each refused browser, too
    #[arg(long, global = true)]
    verbose: bool,
    /// Log what the libraries say, too; $RUST_LOG overrides both
    #[arg(long, global = true)]
    debug: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    Run,
    /// Check configuration, database, triggers and rights, and say what to do
    Check {
        /// Only print the effective settings, without connecting
        #[arg(long)]
        config_only: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.common);
    match execute(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // To the log and not with `{:?}`: one line, wherever logs go.
            log::error!("{error:#}");
            if error.is::<config::Error>() {
                Exit::Config
            } else {
                Exit::Failed
            }
            .into()
        }
    }
}

fn start_logging(common: &Common) {
    let filter = match (common.verbose, common.debug) {
        (_, true) => "debug,icinga_desktop_bridge=trace",
        (true, false) => "warn,icinga_desktop_bridge=debug",
        (false, false) => "warn,icinga_desktop_bridge=info",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter)).init();
}

fn execute(cli: &Cli) -> anyhow::Result<Exit> {
    let env = |name: &str| std::env::var(name).ok();
    let directory = config::directory(cli.common.config_dir.clone(), &env);
    let Loaded { config, warnings } = Config::load(&directory, &env)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let mut out = std::io::stdout().lock();
    let exit = match cli.command {
        Command::Run => runtime.block_on(lifecycle::run(&config)),
        Command::Check { config_only: true } => {
            for (name, value) in config.settings() {
                writeln!(out, "{name} = {value}").context("cannot write to standard output")?;
            }
            Exit::Stopped
        }
        Command::Check { config_only: false } => {
            let good = runtime
                .block_on(check::run(&config, &mut out))
                .context("cannot write to standard output")?;
            if good { Exit::Stopped } else { Exit::Failed }
        }
    };
    // Not waiting for a name look-up that may hang in the resolver library.
    runtime.shutdown_background();
    Ok(exit)
}
