//! What grows with the number of streams.

use std::collections::BTreeMap;
use std::error::Error;

use super::chart::{Axes, Curve, curves, picture};
use super::figures::{Line, median, number, numbers};

pub(crate) fn draw(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    picture(2, 2, |areas| {
        let panel = |index: usize, title: &str, y: &str, of: &dyn Fn(&Line) -> Vec<f64>| {
            let axes = Axes {
                title,
                x: "streams",
                y,
                dots: true,
            };
            curves(&areas[index], &axes, &[growth(lines, title, of)])
        };
        let one = |value: Option<f64>| value.into_iter().collect();
        panel(0, "Memory per idle stream", "kB", &|line| {
            one(number(line, "/bytes_per_stream").map(|bytes| bytes / 1e3))
        })?;
        panel(
            1,
            "One transaction to all: the last has it",
            "milliseconds",
            &|line| numbers(line, "/last_ms"),
        )?;
        panel(2, "Sign-ins", "a second", &|line| {
            one(number(line, "/sign_ins_per_second"))
        })?;
        panel(
            3,
            "Idle: processor time of the daemon",
            "ms a second",
            &|line| {
                let spent = number(line, "/idle/daemon_cpu_ms");
                let seconds = number(line, "/idle_seconds");
                one(spent.zip(seconds).map(|(spent, seconds)| spent / seconds))
            },
        )
    })
}

/// The medians of a figure by the number of streams.
fn growth(lines: &[Line], name: &str, of: &dyn Fn(&Line) -> Vec<f64>) -> Curve {
    let mut by_streams: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for line in lines {
        let streams = line["streams"].as_u64().unwrap_or_default();
        by_streams.entry(streams).or_default().extend(of(line));
    }
    let points = by_streams.into_iter();
    let points = points.filter_map(|(streams, values)| Some((streams as f64, median(values)?)));
    Curve {
        name: name.to_owned(),
        points: points.collect(),
    }
}
