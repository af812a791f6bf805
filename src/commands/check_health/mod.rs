//! `check-health`: a monitoring plugin for Icinga, with the exit codes and the output format of the Monitoring Plugins.

mod ask;
mod range;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use self::ask::{NoReport, ask};
use self::range::{NoRange, Range};
use crate::config::{self, AdminAddress, NoAdminAddress};
use crate::observe::{Finding, Report, State, milliseconds};

/// The start of the first line.
const SERVICE: &str = "DESKTOP-BRIDGE";

/// The plugin's exit code.
impl From<State> for ExitCode {
    fn from(state: State) -> Self {
        Self::from(match state {
            State::Ok => 0,
            State::Warning => 1,
            State::Critical => 2,
            State::Unknown => 3,
        })
    }
}

/// The ranges of a good latency.
struct Thresholds {
    warning: Range,
    critical: Range,
}

/// Checks the daemon at `address`, or at the address from `configured`, and writes the result to `out`: one line with performance
/// data after `|`, followed by what to do. `thresholds` are the ranges of a good latency: WARNING outside the first, CRITICAL
/// outside the second.
///
/// # Errors
///
/// If `out` cannot be written to.
pub async fn run(
    address: Option<&str>,
    configured: impl FnOnce() -> Result<Option<AdminAddress>, config::Error>,
    thresholds: [&str; 2],
    out: &mut impl Write,
) -> io::Result<State> {
    match examine(address, configured, thresholds).await {
        Err(finding) => write(out, &[finding], None),
        Ok((report, thresholds)) => {
            let findings = judge(&report, &thresholds);
            write(out, &findings, Some(&summary(&report, &thresholds)))
        }
    }
}

async fn examine(
    address: Option<&str>,
    configured: impl FnOnce() -> Result<Option<AdminAddress>, config::Error>,
    [warning, critical]: [&str; 2],
) -> Result<(Report, Thresholds), Finding> {
    let range = |option: &str, text: &str| {
        text.parse()
            .map_err(|error: NoRange| unknown(format!("--{option} {text}: no range"), error))
    };
    let thresholds = Thresholds {
        warning: range("warning", warning)?,
        critical: range("critical", critical)?,
    };
    let address = find(address, configured)?;
    let report = ask(&address).await;
    report
        .map(|report| (report, thresholds))
        .map_err(|error| unreported(&address, &error))
}

/// The address in the command line, or else the configured one.
fn find(
    address: Option<&str>,
    configured: impl FnOnce() -> Result<Option<AdminAddress>, config::Error>,
) -> Result<AdminAddress, Finding> {
    if let Some(text) = address {
        let no_address =
            |error: NoAdminAddress| unknown(format!("--admin {text}: no address"), error);
        return text.parse().map_err(no_address);
    }
    match configured() {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(unknown(
            "the daemon has no admin address",
            "set [daemon] admin = 127.0.0.1:9002 in Icinga Web's modules/notifications/config.ini, and restart the daemon",
        )),
        Err(error) => Err(unknown(
            format!("cannot read [daemon] admin: {error}"),
            "if this user may not read Icinga Web's configuration, give the address with --admin",
        )),
    }
}

fn unknown(what: impl Into<String>, advice: impl ToString) -> Finding {
    Finding::new(State::Unknown, what, advice.to_string())
}

/// The finding if the daemon at `address` did not report.
fn unreported(address: &AdminAddress, error: &NoReport) -> Finding {
    let running = format!(
        "check that the daemon runs (systemctl status icinga-notifications-web), and that {address} is [daemon] admin in its \
         configuration"
    );
    let (state, advice) = match error {
        NoReport::Unreachable(error) if error.kind() == ErrorKind::PermissionDenied => (
            State::Unknown,
            "give the user that runs the plugin access to that socket".to_owned(),
        ),
        NoReport::Unreachable(_) | NoReport::Broken(_) => (State::Critical, running),
        NoReport::Silent => (
            State::Critical,
            format!("the daemon or its machine is overloaded or frozen; {running}"),
        ),
        NoReport::Foreign(_) => (
            State::Unknown,
            format!(
                "give the address in [daemon] admin, and not that of streams; another service uses {address}"
            ),
        ),
    };
    Finding::new(state, format!("{address}: {error}"), advice)
}

/// All problems of a report.
fn judge(report: &Report, thresholds: &Thresholds) -> Vec<Finding> {
    report.judge(|latency| {
        [
            (State::Critical, "critical", &thresholds.critical),
            (State::Warning, "warning", &thresholds.warning),
        ]
        .into_iter()
        .find(|(.., range)| range.alerts(latency))
        .map(|(state, option, range)| (state, format!("--{option} {range}")))
    })
}

/// The part that is always shown.
struct Summary {
    text: String,
    performance: String,
}

fn summary(report: &Report, thresholds: &Thresholds) -> Summary {
    let Report {
        streams,
        streams_limit,
        users,
        sessions,
        sessions_up,
        ..
    } = report;
    let mut text = format!(
        "{streams} streams of {users} users, {sessions_up} of {sessions} database sessions up"
    );
    let mut performance = format!(
        "streams={streams};{};;0;{streams_limit} users={users};;;0 sessions_up={sessions_up};;{sessions}:;0;{sessions}",
        report.nearly_full(),
    );
    // Unknown values are omitted: Icinga 2 rejects the U that the guidelines define for them.
    if let Some(age) = report.round_age_seconds {
        let _ = write!(text, ", last round {age:.0} s ago");
        let _ = write!(performance, " round_age={age:.1}s;;;0");
    }
    match report.latency_p95_seconds {
        Some(latency) => {
            let _ = write!(text, ", p95 latency {}", milliseconds(latency));
            let _ = write!(
                performance,
                " latency_p95={latency:.6}s;{};{};0",
                thresholds.warning, thresholds.critical
            );
        }
        None => text.push_str(", no event in 5 minutes"),
    }
    let _ = write!(
        performance,
        " events_without_receipt={};0;;0",
        report.events_without_receipt
    );
    Summary { text, performance }
}

/// Writes the worst state, the problems, the summary and what to do.
fn write(
    out: &mut impl Write,
    findings: &[Finding],
    summary: Option<&Summary>,
) -> io::Result<State> {
    let state = (findings.iter().map(|finding| finding.state).max()).unwrap_or(State::Ok);
    let name: &str = state.into();
    let mut parts: Vec<&str> = findings
        .iter()
        .map(|finding| finding.what.as_str())
        .collect();
    parts.extend(summary.map(|summary| summary.text.as_str()));
    write!(out, "{SERVICE} {name}: {}", plain(&parts.join("; ")))?;
    if let Some(summary) = summary {
        write!(out, " | {}", summary.performance)?;
    }
    writeln!(out)?;
    for finding in findings {
        writeln!(out, "{}", plain(&finding.advice))?;
    }
    Ok(state)
}

/// Cleans text from elsewhere: `|` starts performance data, and a line break ends the line. Long text is cut.
fn plain(text: &str) -> String {
    const LONGEST: usize = 1000;
    let replace = |c: char| match c {
        '|' => '/',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().take(LONGEST).map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_permission_is_unknown_not_critical() {
        let address: AdminAddress = "/run/admin.sock".parse().unwrap();
        for (kind, state) in [
            (ErrorKind::PermissionDenied, State::Unknown),
            (ErrorKind::ConnectionRefused, State::Critical),
            (ErrorKind::NotFound, State::Critical),
        ] {
            let finding = unreported(&address, &NoReport::Unreachable(kind.into()));
            assert_eq!(finding.state, state, "{kind}");
            assert!(finding.what.starts_with("/run/admin.sock: no connection: "));
        }
    }

    #[test]
    fn foreign_text_adds_neither_lines_nor_performance_data() {
        let finding = Finding::new(State::Unknown, "a|b\r\nc", "d\0e".repeat(1000));
        let mut out = Vec::new();
        assert_eq!(write(&mut out, &[finding], None).unwrap(), State::Unknown);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("DESKTOP-BRIDGE UNKNOWN: a/b  c\nd ed e"),
            "{text}"
        );
        assert_eq!((text.lines().count(), text.matches('|').count()), (2, 0));
        assert!(text.len() < 1100, "{}", text.len());
    }
}
