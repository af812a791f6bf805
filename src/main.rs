//! Flags, logging, exit code. Everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser as _;
use icinga_desktop_bridge::check;
use icinga_desktop_bridge::cli::{Cli, Command, Common};
use icinga_desktop_bridge::config::{self, Config, Loaded};
use icinga_desktop_bridge::lifecycle::{self, Exit};
use icinga_desktop_bridge::logging;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(log_filter(&cli.common));
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

/// What is logged by default.
fn log_filter(common: &Common) -> &'static str {
    match (common.verbose, common.debug) {
        (_, true) => "debug,icinga_desktop_bridge=trace",
        (true, false) => "warn,icinga_desktop_bridge=debug",
        (false, false) => "warn,icinga_desktop_bridge=info",
    }
}

fn execute(cli: &Cli) -> anyhow::Result<Exit> {
    let env = |name: &str| std::env::var(name).ok();
    let directory = config::directory(cli.common.config_dir.clone(), &env);
    let load = move || Config::load(&directory, &env);
    let Loaded { config, warnings } = load()?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    // One thread: an event passes through half a dozen tasks, and waking another thread for each of them takes
    // longer than all their work (benches/README.md).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut out = std::io::stdout().lock();
    let exit = match cli.command {
        Command::Run => runtime.block_on(lifecycle::run(config, load)),
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
