//! The benches' JSON lines.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// One thing that was measured.
pub(crate) type Line = Value;

pub(crate) fn read(file: &Path) -> Result<Vec<Line>, Box<dyn Error>> {
    parse(&fs::read_to_string(file)?)
}

pub(crate) fn parse(text: &str) -> Result<Vec<Line>, Box<dyn Error>> {
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// A number of a line, by its JSON pointer.
pub(crate) fn number(line: &Line, pointer: &str) -> Option<f64> {
    line.pointer(pointer)?.as_f64()
}

/// An array of numbers of a line.
pub(crate) fn numbers(line: &Line, pointer: &str) -> Vec<f64> {
    let array = line.pointer(pointer).and_then(Value::as_array);
    let numbers = array.into_iter().flatten().filter_map(Value::as_f64);
    numbers.collect()
}

/// The value in the middle, and of an even number the lower of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// For each of the values in ascending order, the percentage of values that are not above it.
pub(crate) fn distribution(mut values: Vec<f64>) -> Vec<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let percent = 100.0 / values.len() as f64;
    let points = values.into_iter().enumerate();
    let points: Vec<(f64, f64)> = points
        .map(|(index, value)| (value, (index + 1) as f64 * percent))
        .collect();
    // No picture shows more than that.
    let step = (points.len() / 500).max(1);
    let last = points.last().copied();
    points.into_iter().step_by(step).chain(last).collect()
}
