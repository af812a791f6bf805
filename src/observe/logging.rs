//! The log format: with times on a terminal or in a file, with priorities in systemd's journal, which adds its own times.

use std::fmt;
use std::io::Write as _;
use std::os::linux::fs::MetadataExt as _;

use env_logger::{Builder, Env};
use log::{Level, Record};

/// Starts logging to standard error, with the filter `default` unless `$RUST_LOG` is set.
pub fn start(default: &str) {
    let mut builder = Builder::from_env(Env::default().default_filter_or(default));
    if to_journal() {
        builder.format(|buffer, record| writeln!(buffer, "{}", journal_line(record)));
    }
    builder.init();
}

/// Whether standard error is the journal (systemd.exec(5), `$JOURNAL_STREAM`), and was not redirected since.
fn to_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    journal == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}

/// A record with its priority (sd-daemon(3)), on a single line: further lines would have no priority.
fn journal_line(record: &Record<'_>) -> String {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let message = OneLine(record.args());
    // The module is only useful for debugging.
    if record.level() >= Level::Debug {
        format!("<{priority}>{}: {message}", record.target())
    } else {
        format!("<{priority}>{message}")
    }
}

/// Text without line breaks and other control characters, which a server or a client may have sent.
struct OneLine<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(&text.replace(char::is_control, " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_priority_and_is_one_line() {
        let line = |level, text: &str| {
            journal_line(
                &Record::builder()
                    .level(level)
                    .target("icinga_desktop_bridge::hub")
                    .args(format_args!("{text}"))
                    .build(),
            )
        };
        assert_eq!(line(Level::Error, "a\nb\u{1b}[1m"), "<3>a b [1m");
        assert_eq!(line(Level::Warn, "w"), "<4>w");
        assert_eq!(line(Level::Info, "i"), "<6>i");
        assert_eq!(line(Level::Debug, "d"), "<7>icinga_desktop_bridge::hub: d");
    }
}
