//! Draws the pictures of README.md and doc/scale.md from the figures that the benches have written.
//!
//!     cargo run --example plot [-- FIGURES [PICTURES]]
//!
//! FIGURES is the directory of the benches' JSON lines, `target/figures` by default; PICTURES is where the SVGs go, `doc` by
//! default. Of what was measured several times a picture shows the median. What was not measured is not drawn.
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a program that prints, with no interface but that"
)]

mod chart;
mod figures;
mod growth;
mod latency;
mod peers;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use figures::Line;

/// What draws a picture, as SVG.
type Draw = fn(&[Line]) -> Result<String, Box<dyn Error>>;

/// Each picture's name, which is that of its figures, too; what measures it; and what draws it.
const PICTURES: [(&str, &str, Draw); 3] = [
    (
        "latency",
        "cargo bench --bench bridge -- latency",
        latency::draw,
    ),
    ("peers", "cargo bench --bench peers", peers::draw),
    (
        "growth",
        "cargo bench --bench bridge -- growth",
        growth::draw,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let figures = arguments.next().unwrap_or_else(|| "target/figures".into());
    let pictures = arguments.next().unwrap_or_else(|| "doc".into());
    let mut complete = true;
    for (name, command, draw) in PICTURES {
        let (from, to) = (
            figures.join(format!("{name}.jsonl")),
            pictures.join(format!("{name}.svg")),
        );
        let drawn = figures::read(&from)
            .and_then(|lines| draw(&lines))
            .and_then(|svg| Ok(std::fs::write(&to, svg)?));
        match drawn {
            Ok(()) => println!("{}", to.display()),
            Err(error) => {
                eprintln!("{}: {error}; `{command}` writes it", from.display());
                complete = false;
            }
        }
    }
    if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
