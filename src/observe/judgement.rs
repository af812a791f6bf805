//! Judges a daemon's report: what is wrong and what to do. `check-health` and the status page share it.

use super::Report;

/// The latency in seconds from which somebody should look at it.
pub(crate) const SLOW: f64 = 1.0;

/// The latency in seconds from which users notice.
pub(crate) const TOO_SLOW: f64 = 5.0;

/// The percentage of places in use above which too few are left; the Prometheus alert in `packaging/prometheus` has the same
/// value.
const NEARLY_FULL: usize = 90;

/// The state of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum State {
    /// Everything works.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// The daemon does not answer, is not ready, or is too slow.
    Critical,
    /// The check failed.
    Unknown,
}

/// A problem, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) state: State,
    pub(crate) what: String,
    pub(crate) advice: String,
}

impl Finding {
    pub(crate) fn new(state: State, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state,
            what: what.into(),
            advice: advice.into(),
        }
    }
}

impl Report {
    /// All problems. `slow` judges the latency in seconds: it returns the state and the bound that was exceeded, or `None`.
    pub(crate) fn judge(&self, slow: impl FnOnce(f64) -> Option<(State, String)>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(not_ready) = &self.not_ready {
            findings.push(Finding::new(
                State::Critical,
                format!("not ready: {not_ready}"),
                "journalctl -u icinga-notifications-web says why, and icinga-desktop-bridge check what to do; do not restart \
                 the daemon, which connects by itself",
            ));
        }
        if let Some(latency) = self.latency_p95_seconds
            && let Some((state, bound)) = slow(latency)
        {
            findings.push(Finding::new(
                state,
                format!("events take {} ({bound})", milliseconds(latency)),
                "a slow database, a busy machine, or a client that does not read: \
                 /usr/share/doc/icinga-desktop-bridge/doc/troubleshoot.md",
            ));
        }
        if self.events_without_receipt > 0 {
            findings.push(Finding::new(
                State::Warning,
                format!("{} events without receipt in 5 minutes", self.events_without_receipt),
                "they were written 5 times, and no browser acknowledged them: look for a client that is no browser, or a \
                 proxy that keeps ended streams open",
            ));
        }
        if self.streams > self.nearly_full() {
            findings.push(Finding::new(
                State::Warning,
                format!("{} of {} places for streams are taken", self.streams, self.streams_limit),
                "raise LimitNOFILE= of the unit (systemctl edit icinga-notifications-web), or add a \
                 bridge: /usr/share/doc/icinga-desktop-bridge/doc/scale.md",
            ));
        }
        findings
    }

    /// The number of streams above which too few places are left.
    pub(crate) fn nearly_full(&self) -> usize {
        self.streams_limit * NEARLY_FULL / 100
    }
}

/// Formats a latency for people.
pub(crate) fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}
