//! Parses the command line, starts logging, runs the command and sets the exit code. Everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory as _, Parser as _};
use icinga_desktop_bridge::cli::{Cli, Command, Common, StreamArgs};
use icinga_desktop_bridge::commands::check::{self, Visit};
use icinga_desktop_bridge::commands::check_health;
use icinga_desktop_bridge::commands::{explain, send_test};
use icinga_desktop_bridge::config::{self, Config, Loaded, Secret};
use icinga_desktop_bridge::lifecycle::{self, Exit};
use icinga_desktop_bridge::observe::{State, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    logging::start(log_filter(&cli.common));
    match execute(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            // Logged, and not in the `{:?}` format: an error is one line.
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

/// Answers a wrong command line, `--help` or `--version`.
fn usage_error(error: &clap::Error) -> ExitCode {
    let given = Cli::command().ignore_errors(true).try_get_matches();
    let plugin = given.is_ok_and(|given| given.subcommand_name() == Some("check-health"));
    if plugin && error.use_stderr() {
        // clap exits with 2, which is CRITICAL to Icinga.
        let _ = error.print();
        return State::Unknown.into();
    }
    error.exit()
}

/// The default log filter.
fn log_filter(common: &Common) -> &'static str {
    match (common.verbose, common.debug) {
        (_, true) => "debug,icinga_desktop_bridge=trace",
        (true, false) => "warn,icinga_desktop_bridge=debug",
        (false, false) => "warn,icinga_desktop_bridge=info",
    }
}

fn execute(cli: &Cli) -> anyhow::Result<ExitCode> {
    let env = |name: &str| std::env::var(name).ok();
    let directory = config::directory(cli.common.config_dir.clone(), &env);
    let load = move || Config::load(&directory, &env);
    let configured = || -> anyhow::Result<Config> {
        let Loaded { config, warnings } = load()?;
        for warning in warnings {
            log::warn!("{warning}");
        }
        Ok(config)
    };
    // One thread: an event passes through half a dozen tasks, and waking another thread for each of them takes longer than all
    // their work (benches/README.md).
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut out = std::io::stdout().lock();
    let verdict = |good: bool| if good { Exit::Stopped } else { Exit::Failed };
    let exit = match &cli.command {
        Command::Run => runtime
            .block_on(lifecycle::run(configured()?, load.clone()))
            .into(),
        Command::Check {
            config_only: true, ..
        } => {
            for (name, value) in configured()?.settings() {
                writeln!(out, "{name} = {value}").context("cannot write to standard output")?;
            }
            Exit::Stopped.into()
        }
        Command::Check {
            config_only: false,
            stream,
        } => {
            let config = configured()?;
            let visit = visit(stream)?;
            let good = runtime
                .block_on(check::run(&config, visit.as_ref(), &mut out))
                .context("cannot write to standard output")?;
            verdict(good).into()
        }
        Command::CheckHealth(args) => {
            // Without logging: Icinga shows both standard output and standard error.
            let admin = || load().map(|loaded| loaded.config.daemon.admin().cloned());
            let thresholds = [args.warning.as_str(), &args.critical];
            let asked = check_health::run(args.admin.as_deref(), admin, thresholds, &mut out);
            runtime.block_on(asked).unwrap_or(State::Unknown).into()
        }
        Command::SendTest { user } => {
            let sent = runtime
                .block_on(send_test::run(&configured()?, user, &mut out))
                .context("cannot write to standard output")?;
            verdict(sent).into()
        }
        Command::Explain { user, json } => {
            let good = runtime
                .block_on(explain::run(&configured()?, user, *json, &mut out))
                .context("cannot write to standard output")?;
            verdict(good).into()
        }
    };
    // Does not wait for a name look-up that may hang in the resolver library.
    runtime.shutdown_background();
    Ok(exit)
}

/// The browser that `check` acts as.
fn visit(stream: &StreamArgs) -> anyhow::Result<Option<Visit>> {
    // clap accepts these flags only together.
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
