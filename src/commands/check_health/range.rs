//! Threshold ranges in the syntax of the Monitoring Plugins.

use std::fmt;
use std::str::FromStr;

/// A range: values outside it alert, or those inside if it starts with `@`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Range {
    /// The text as given, for performance data.
    text: String,
    first: f64,
    last: f64,
    inverted: bool,
}

/// The error for a text that is not a [`Range`].
#[derive(Debug, thiserror::Error)]
#[error(
    "give a range of the Monitoring Plugins, for example 1 (alerts above 1), 0.5:2 (alerts outside), 1: (alerts below 1), \
     ~:2 (alerts above 2), @1:2 (alerts inside)"
)]
pub(super) struct NoRange;

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let number = |text: &str| -> Result<f64, NoRange> {
            // `parse` alone also accepts "inf" and "nan".
            let digits = text
                .chars()
                .all(|c| matches!(c, '0'..='9' | '.' | '-' | '+'));
            text.parse().ok().filter(|_| digits).ok_or(NoRange)
        };
        let bounds = text.strip_prefix('@').unwrap_or(text);
        let (first, last) = match bounds.split_once(':') {
            None => (0.0, number(bounds)?),
            Some((first, last)) => (
                match first {
                    "" => 0.0,
                    "~" => f64::NEG_INFINITY,
                    first => number(first)?,
                },
                match last {
                    "" => f64::INFINITY,
                    last => number(last)?,
                },
            ),
        };
        if first > last {
            return Err(NoRange);
        }
        Ok(Self {
            text: text.to_owned(),
            first,
            last,
            inverted: text.starts_with('@'),
        })
    }
}

impl Range {
    /// Whether this value alerts.
    pub(super) fn alerts(&self, value: f64) -> bool {
        (self.first..=self.last).contains(&value) == self.inverted
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_alert_as_the_monitoring_plugins_define() {
        for (range, good, bad) in [
            ("10", &[0.0, 10.0][..], &[-0.1, 10.1][..]),
            ("10:", &[10.0, 1e9], &[9.9, -1.0]),
            (":10", &[0.0, 10.0], &[-1.0, 11.0]),
            ("~:10", &[-1e9, 10.0], &[10.1]),
            ("10:20", &[10.0, 20.0], &[9.9, 20.1]),
            ("@10:20", &[9.9, 20.1], &[10.0, 20.0]),
            ("@5", &[-1.0, 5.1], &[0.0, 5.0]),
            ("-2:-1.5", &[-2.0, -1.5], &[-1.0, -3.0]),
            ("0.25", &[0.25], &[0.26]),
            ("0:0", &[0.0], &[0.001]),
        ] {
            let parsed: Range = range.parse().unwrap();
            assert!(good.iter().all(|value| !parsed.alerts(*value)), "{range}");
            assert!(bad.iter().all(|value| parsed.alerts(*value)), "{range}");
            assert_eq!(parsed.to_string(), range);
        }
    }

    #[test]
    fn invalid_ranges_are_rejected() {
        for text in [
            "", "@", "x", "1s", "20:10", "1:2:3", "inf", "nan", "1e3", "~", "1,5", " 1", "10:~",
            "|", "1:x",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
