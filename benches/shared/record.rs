//! The raw figures, as JSON lines: a file per measurement, a line per measured thing. `benches/plot` draws them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::figures;

/// Appends the object `figures` to `NAME.jsonl` in `target/figures`, or in the directory named by the environment variable
/// `FIGURES`. It adds what is needed to judge them: time, sources, machine and load.
pub(crate) fn record(name: &str, figures: Value) {
    let Value::Object(figures) = figures else {
        panic!("no object: {figures}");
    };
    let mut line = stamp().clone();
    line.insert("at".to_owned(), now().into());
    line.insert("load".to_owned(), figures::load().into());
    line.extend(figures);
    let directory = std::env::var_os("FIGURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/figures")),
        PathBuf::from,
    );
    fs::create_dir_all(&directory).expect("a directory for the figures");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(format!("{name}.jsonl")))
        .expect("a file for the figures");
    writeln!(file, "{}", Value::Object(line)).expect("the figures are written");
}

/// The values shared by all lines of a run.
fn stamp() -> &'static Map<String, Value> {
    static STAMP: OnceLock<Map<String, Value>> = OnceLock::new();
    STAMP.get_or_init(|| {
        let commit = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe"])
            .args(["--always", "--dirty"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Map::from_iter([
            ("commit".to_owned(), commit.unwrap_or_default().into()),
            ("machine".to_owned(), figures::machine().into()),
        ])
    })
}

/// Seconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock that was set").as_secs()
}

/// Rounds to two digits after the point: the rest is noise, and ten thousand such numbers are a line.
pub(crate) fn rounded(values: impl IntoIterator<Item = f64>) -> Value {
    let rounded = |value: f64| Value::from((value * 100.0).round() / 100.0);
    Value::Array(values.into_iter().map(rounded).collect())
}
