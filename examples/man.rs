//! Writes the man page to standard output: `cargo run --example man -- DATE`.
//!
//! Commands and options come from the definition of the command line, so they cannot differ from it; the other sections (files,
//! exit status, signals, environment) are below.

use std::io::{self, Write as _};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use icinga_desktop_bridge::cli::Cli;

/// A section of paragraphs, each with its subject.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const SECTIONS: [Section; 4] = [
    (
        "FILES",
        &[
            (
                "/etc/icingaweb2/modules/notifications/config.ini",
                "Addresses to listen on ([daemon]) and the resource ([database]); shared with Icinga Web. An example with \
                 all keys is in /usr/share/doc/icinga-desktop-bridge/examples.",
            ),
            (
                "/etc/icingaweb2/resources.ini",
                "The connection to the database.",
            ),
            (
                "/usr/share/icinga-desktop-bridge/sql",
                "Scripts to run in the database, by hand and at upgrades that require it: install.sql (triggers), grants.sql \
                 (rights of the daemon's role); uninstall.sql removes everything.",
            ),
            (
                "/usr/share/icinga-desktop-bridge/nginx, /usr/share/icinga-desktop-bridge/apache",
                "Configuration for the reverse proxy in front of the daemon.",
            ),
            (
                "/usr/share/icinga-desktop-bridge/icinga",
                "A check of the daemon for Icinga and Icinga Director.",
            ),
            (
                "/usr/share/doc/icinga-desktop-bridge/doc",
                "The manual: installing, migrating, configuring, proxies, upgrading, monitoring, troubleshooting by symptom, scaling, \
                 security.",
            ),
            (
                "icinga-notifications-web.service, icinga-notifications-web.socket",
                "The systemd units; when enabled, the service is icinga-desktop-notifications.service as well. The socket keeps \
                 the ports open while the service restarts, by default [::]:9001 and 127.0.0.1:5664; if config.ini names other \
                 addresses, set the same ones in the socket unit (its comments say how), or disable it.",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            (
                "0",
                "Stopped by a signal. check: all checks passed. send-test: a browser received the test. explain: no problem was found.",
            ),
            (
                "1",
                "Failed; a restart may help. check: a check failed. send-test: no browser received the test. explain: a problem was found.",
            ),
            ("2", "Wrong command line."),
            (
                "78",
                "Correct the configuration or the installation in the database first. systemd does not restart the service.",
            ),
            (
                "0, 1, 2, 3",
                "check-health: OK, WARNING, CRITICAL, UNKNOWN, as for all monitoring plugins.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "End all streams and stop. Browsers reconnect after some seconds.",
            ),
            (
                "SIGHUP",
                "Reload the configuration without ending streams. Changed settings that need a restart are logged.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "ICINGAWEB_CONFIGDIR",
                "Icinga Web's configuration directory, unless --config-dir names it.",
            ),
            (
                "RUST_LOG",
                "What to log, as in env_logger's documentation; overrides --verbose and --debug.",
            ),
            (
                "PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT, …",
                "libpq's variables, for settings that resources.ini omits.",
            ),
            (
                "LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM",
                "Set by systemd: the sockets to serve, where to send notifications, the watchdog interval and the journal.",
            ),
        ],
    ),
];

/// The man page. `date` is that of the page, for its footer.
///
/// # Errors
///
/// Never in practice: writing to memory cannot fail.
pub(crate) fn page(date: &str) -> io::Result<String> {
    let mut cli = Cli::command();
    cli.build();
    let man = Man::new(cli.clone())
        .section("8")
        .date(date)
        .source(format!("{} {}", cli.get_name(), env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    heading("COMMANDS").to_writer(&mut page)?;
    for command in cli.get_subcommands() {
        if command.get_name() != "help" {
            write_command(command, &mut page)?;
        }
    }
    man.render_options_section(&mut page)?;
    for (name, paragraphs) in SECTIONS {
        let mut section = heading(name);
        for (about, text) in paragraphs {
            section.control("TP", []);
            section.text([bold(*about)]);
            section.text([roman(*text)]);
        }
        section.to_writer(&mut page)?;
    }
    let mut see_also = heading("SEE ALSO");
    see_also.text([
        bold("systemctl"),
        roman("(1), "),
        bold("journalctl"),
        roman("(1), "),
        bold("psql"),
        roman("(1)"),
    ]);
    see_also.to_writer(&mut page)?;
    String::from_utf8(page).map_err(io::Error::other)
}

fn heading(name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    roff
}

/// The description of a command and its own options.
fn write_command(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SS", [command.get_name()]);
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        roff.text([roman(format!("{about}."))]);
    }
    roff.to_writer(page)?;
    let own = Command::new("own").args(
        command
            .get_arguments()
            .filter(|argument| {
                !argument.is_global_set()
                    && !["help", "version"].contains(&argument.get_id().as_str())
            })
            .cloned(),
    );
    let mut options = Vec::new();
    Man::new(own.disable_help_flag(true)).render_options_section(&mut options)?;
    // Below the command's heading, not under one of their own.
    let options = String::from_utf8(options).map_err(io::Error::other)?;
    page.extend_from_slice(options.replace(".SH OPTIONS\n", "").as_bytes());
    Ok(())
}

#[allow(
    dead_code,
    reason = "the test of the page includes this file and calls page() itself"
)]
fn main() -> io::Result<()> {
    let date = std::env::args()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: cargo run --example man -- DATE"))?;
    io::stdout().lock().write_all(page(&date)?.as_bytes())
}
