//! Performance data, parsed by the grammar of the Monitoring Plugins' guidelines: `'label'=value[UOM];[warn];[crit];[min];[max]`,
//! separated by spaces, after the first `|`.

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// The range of a threshold, or nothing.
    pub(crate) warning: String,
    /// Likewise.
    pub(crate) critical: String,
    /// The maximum, or nothing.
    pub(crate) maximum: String,
}

/// A number according to the guidelines: of the class `[-0-9.]`.
fn number(text: &str) -> Option<f64> {
    let class = text
        .chars()
        .all(|c| c.is_ascii_digit() || c == '-' || c == '.');
    text.parse().ok().filter(|_| class)
}

/// Whether this is a threshold: `[@][start:]end`, with `~` for no start.
fn is_range(text: &str) -> bool {
    let bounds = text.strip_prefix('@').unwrap_or(text);
    match bounds.split_once(':') {
        None => number(bounds).is_some(),
        Some((start, end)) => {
            (start == "~" || number(start).is_some()) && (end.is_empty() || number(end).is_some())
        }
    }
}

/// The figures of a plugin's output.
///
/// # Panics
///
/// If a plugin must not write it like this.
pub(crate) fn figures(output: &str) -> Vec<Figure> {
    let first = output.lines().next().expect("a line");
    let (_, data) = first
        .split_once('|')
        .unwrap_or_else(|| panic!("no data: {output}"));
    assert!(!data.contains('|'), "{output}");
    data.split_whitespace()
        .map(|datum| {
            let (label, rest) = datum.split_once('=').unwrap_or_else(|| panic!("{datum}"));
            assert!(!label.is_empty() && !label.contains('\''), "{datum}");
            let fields: Vec<&str> = rest.split(';').collect();
            assert!(fields.len() <= 5, "{datum}");
            let field = |index: usize| fields.get(index).copied().unwrap_or_default();
            let digits = |c: char| c.is_ascii_digit() || c == '-' || c == '.';
            let value = field(0).trim_end_matches(|c| !digits(c));
            let unit = &field(0)[value.len()..];
            assert!(
                ["", "s", "ms", "us", "%", "B", "KB", "MB", "TB", "c"].contains(&unit),
                "{datum}"
            );
            for range in [field(1), field(2)] {
                assert!(range.is_empty() || is_range(range), "{datum}");
            }
            for bound in [field(3), field(4)] {
                assert!(bound.is_empty() || number(bound).is_some(), "{datum}");
            }
            Figure {
                label: label.to_owned(),
                value: number(value).unwrap_or_else(|| panic!("{datum}")),
                unit: unit.to_owned(),
                warning: field(1).to_owned(),
                critical: field(2).to_owned(),
                maximum: field(4).to_owned(),
            }
        })
        .collect()
}
