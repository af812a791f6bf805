//! Flags, logging, exit code. Everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser as _;
use icinga_desktop_bridge::cli::{Cli, Command, Common, StreamArgs};
use icinga_desktop_bridge::commands::check::{self, Visit};
use icinga_desktop_bridge::commands::send_test;
use icinga_desktop_bridge::config::{self, Config, Loaded, Secret};
use icinga_desktop_bridge::lifecycle::{self, Exit};
use icinga_desktop_bridge::observe::logging;

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
    let exit = match &cli.command {
        Command::Run => runtime.block_on(lifecycle::run(config, load)),
        Command::Check {
            config_only: true, ..
        } => {
            for (name, value) in config.settings() {
                writeln!(out, "{name} = {value}").context("cannot write to standard output")?;
            }
            Exit::Stopped
        }
        Command::Check {
            config_only: false,
            stream,
        } => {
            let visit = visit(stream)?;
            let good = runtime
                .block_on(check::run(&config, visit.as_ref(), &mut out))
                .context("cannot write to standard output")?;
            if good { Exit::Stopped } else { Exit::Failed }
        }
        Command::SendTest { user } => {
            let sent = runtime
                .block_on(send_test::run(&config, user, &mut out))
                .context("cannot write to standard output")?;
            if sent { Exit::Stopped } else { Exit::Failed }
        }
    };
    // Not waiting for a name look-up that may hang in the resolver library.
    runtime.shutdown_background();
    Ok(exit)
}

/// The browser that `check` stands in for.
fn visit(stream: &StreamArgs) -> anyhow::Result<Option<Visit>> {
    // One does not come without the other.
    let (Some(address), Some(cookie)) = (stream.url.clone(), stream.cookie.clone()) else {
        return Ok(None);
    };
    let cookie = if cookie.expose() == "-" {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .context("cannot read the session id from standard input")?;
        Secret::new(line.trim())
    } else {
        cookie
    };
    Ok(Some(Visit {
        address,
        cookie,
        user_agent: stream.user_agent.clone(),
    }))
}
