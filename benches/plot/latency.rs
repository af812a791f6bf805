//! From COMMIT to the client: the distribution, with and without the disk, compared with bare clients of PostgreSQL.

use std::error::Error;

use super::chart::{Axes, Curve, curves, picture};
use super::figures::{Line, distribution, numbers};

const RECEIVERS: [&str; 3] = ["bridge", "bare LISTEN", "LISTEN and read"];

pub(crate) fn draw(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    picture(1, 2, |areas| {
        let panels = [
            (true, "From COMMIT to the client, disk awaited"),
            (false, "… disk not awaited"),
        ];
        for (area, (disk, title)) in areas.iter().zip(panels) {
            let of = |receiver: &str| Curve {
                name: receiver.to_owned(),
                points: most(distribution(latencies(lines, disk, receiver))),
            };
            let axes = Axes {
                title,
                x: "milliseconds",
                y: "% of events",
                dots: false,
            };
            curves(area, &axes, &RECEIVERS.map(of))?;
        }
        Ok(())
    })
}

/// Without the slowest hundredth, which would compress everything else.
fn most(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.retain(|point| point.1 <= 99.0);
    points
}

/// In milliseconds, of commits that only this receiver received.
fn latencies(lines: &[Line], disk: bool, receiver: &str) -> Vec<f64> {
    let wanted = |line: &&Line| {
        line["disk"] == disk
            && line["receiver"] == receiver
            && line["commits"] == "each alone, by turns"
    };
    let lines = lines.iter().filter(wanted);
    let values = lines.flat_map(|line| numbers(line, "/latencies_us"));
    values.map(|value| value / 1e3).collect()
}
