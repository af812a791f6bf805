//! The daemon compared with alternatives: memory per idle stream, and an event to all.

use std::error::Error;

use super::chart::{Axes, Curve, bars, curves, picture};
use super::figures::{Line, distribution, median, number, numbers};

/// The names in the bench's figures and in the picture.
const HUBS: [(&str, &str); 4] = [
    ("bridge", "this daemon"),
    ("nchan", "nchan, one channel"),
    ("nchan-channels", "nchan, a channel each"),
    ("better-sse", "better-sse, one channel"),
];

pub(crate) fn draw(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let of = |what: &'static str, hub: &'static str| {
        lines
            .iter()
            .filter(move |line| line["what"] == what && line["hub"] == hub)
    };
    let memory: Vec<(String, f64)> = (HUBS.iter())
        .filter_map(|&(hub, name)| {
            let bytes = median(of("memory", hub).filter_map(|line| number(line, "/bytes")))?;
            Some((name.to_owned(), bytes / 1e3))
        })
        .collect();
    let arrivals: Vec<Curve> = (HUBS.iter())
        .filter_map(|&(hub, name)| {
            let last = |line: &Line| number(line, "/last_ms");
            let middle = median(of("fanout", hub).filter_map(last))?;
            let line = of("fanout", hub).find(|line| last(line) == Some(middle))?;
            Some(Curve {
                name: name.to_owned(),
                points: distribution(numbers(line, "/arrivals_ms")),
            })
        })
        .collect();
    let streams = lines.iter().find_map(|line| line["streams"].as_u64());
    let streams = streams.ok_or("no streams")?;
    picture(1, 2, |areas| {
        let title = format!("Memory per idle stream, of {streams}");
        bars(&areas[0], &title, "kB", &memory)?;
        let axes = Axes {
            title: &format!("One event to {streams} clients"),
            x: "milliseconds after it was sent",
            y: "% that have it",
            dots: false,
        };
        curves(&areas[1], &axes, &arrivals)
    })
}
