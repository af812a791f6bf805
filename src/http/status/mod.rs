//! The status page: the data of `/health` and `/metrics`, for people. It shows counts and the daemon's own texts, but no user, no
//! incident and no session.
//!
//! The daemon renders the HTML itself, when the page is requested and then every second ([`live`]); the script only inserts it.
//! So there is only one rendering, and the page also works without scripts.

mod live;

pub(crate) use live::Pages;

use std::fmt::{self, Write as _};
use std::time::Duration;

use strum::VariantArray as _;

use crate::model::database_session::DatabaseSession;
use crate::observe::{Finding, Report, SLOW, State, TOO_SLOW, milliseconds};

const PAGE: &str = include_str!("page.html");
/// Its style.
pub(super) const STYLE: &str = include_str!("status.css");
/// Its script.
pub(super) const SCRIPT: &str = include_str!("status.js");

/// The data of the page.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) report: Report,
    /// Whether the listener, query and sign-in sessions work.
    pub(super) database: [bool; 3],
    /// Triggers that are missing or disabled.
    pub(super) missing_triggers: Vec<String>,
    /// How long the daemon has been running.
    pub(super) running_for: Duration,
    /// The answer of `/metrics`.
    pub(super) metrics: String,
}

impl Status {
    /// The whole page.
    pub(super) fn page(&self) -> String {
        PAGE.replacen("{title}", &Text(&self.title()).to_string(), 1)
            .replacen("{main}", self.main().trim_end(), 1)
    }

    /// The part of the page that changes.
    pub(super) fn main(&self) -> String {
        let findings = self.findings();
        let mut html = String::new();
        // write! cannot fail: a String grows.
        let _ = writeln!(html, "<main data-title=\"{}\">", Text(&self.title()));
        self.state(&findings, &mut html);
        html.push_str("<section id=\"tiles\" aria-label=\"At a glance\">\n");
        for tile in self.tiles() {
            tile.render(&mut html);
        }
        html.push_str("</section>\n<section>\n<h2>All figures</h2>\n");
        figures(&self.metrics, &mut html);
        html.push_str("</section>\n</main>\n");
        html
    }

    fn findings(&self) -> Vec<Finding> {
        self.report.judge(|latency| {
            [(State::Critical, TOO_SLOW), (State::Warning, SLOW)]
                .into_iter()
                .find(|(_, bound)| latency > *bound)
                .map(|(state, bound)| (state, format!("more than {bound} s")))
        })
    }

    fn title(&self) -> String {
        format!("{} – icinga-desktop-bridge", headline(&self.findings()))
    }

    /// The problems and what to do.
    fn state(&self, findings: &[Finding], html: &mut String) {
        let _ = writeln!(
            html,
            "<div role=\"status\">\n<section id=\"state\" class=\"{}\">\n<h2>{}</h2>",
            class(worst(findings)),
            headline(findings)
        );
        if !findings.is_empty() {
            html.push_str("<dl>\n");
            for Finding { what, advice, .. } in findings {
                let _ = writeln!(html, "<dt>{}</dt>\n<dd>{}</dd>", Text(what), Text(advice));
            }
            html.push_str("</dl>\n");
        }
        html.push_str("</section>\n</div>\n");
    }

    fn tiles(&self) -> [Tile; 8] {
        let report = &self.report;
        let full = report.streams > report.nearly_full();
        let up = |up: &bool| if *up { "up" } else { "down" };
        let sessions: Vec<String> = (DatabaseSession::VARIANTS.iter().zip(&self.database))
            .map(|(session, is_up)| format!("{session} {}", up(is_up)))
            .collect();
        let all_up = report.sessions_up == report.sessions;
        let latency = report.latency_p95_seconds;
        let round = report.round_age_seconds.map(Duration::from_secs_f64);
        let missing = &self.missing_triggers;
        [
            Tile::new("Streams", report.streams)
                .more(format!("of {} that may be open", report.streams_limit))
                .judged(full, State::Warning)
                .of(report.streams, report.streams_limit),
            Tile::new("Users", report.users).more("with open streams"),
            Tile::new(
                "Database sessions",
                format!("{} of {}", report.sessions_up, report.sessions),
            )
            .more(sessions.join(", "))
            .judged(!all_up, State::Critical),
            Tile::new("Last round", round.map_or("none yet".to_owned(), ago))
                .more("through the database and back; there is one every 10 seconds"),
            Tile::new("Latency", latency.map_or("–".to_owned(), milliseconds))
                .more(match latency {
                    Some(_) => "95 % of the events of the last 5 minutes were at most this late",
                    None => "no event in the last 5 minutes",
                })
                .judged(
                    latency.is_some_and(|latency| latency > SLOW),
                    State::Warning,
                ),
            Tile::new("Events without receipt", report.events_without_receipt)
                .more("in the last 5 minutes")
                .judged(report.events_without_receipt > 0, State::Warning),
            Tile::new(
                "Triggers",
                match missing.len() {
                    0 => "all there".to_owned(),
                    count => format!("{count} missing"),
                },
            )
            .more(missing.join(", "))
            .judged(!missing.is_empty(), State::Critical),
            Tile::new("Running for", span(self.running_for))
                .more(format!("version {}", report.version)),
        ]
    }
}

fn headline(findings: &[Finding]) -> &'static str {
    match worst(findings) {
        State::Ok => "Everything works",
        State::Warning => "Works, with warnings",
        State::Critical | State::Unknown => "Something is wrong",
    }
}

fn worst(findings: &[Finding]) -> State {
    let states = findings.iter().map(|finding| finding.state);
    states.max().unwrap_or(State::Ok)
}

fn class(state: State) -> String {
    <&str>::from(state).to_lowercase()
}

/// A large figure.
struct Tile {
    name: &'static str,
    figure: String,
    more: String,
    state: State,
    share: Option<(usize, usize)>,
}

impl Tile {
    fn new(name: &'static str, figure: impl ToString) -> Self {
        Self {
            name,
            figure: figure.to_string(),
            more: String::new(),
            state: State::Ok,
            share: None,
        }
    }

    fn more(mut self, more: impl Into<String>) -> Self {
        self.more = more.into();
        self
    }

    fn judged(mut self, is_wrong: bool, state: State) -> Self {
        if is_wrong {
            self.state = state;
        }
        self
    }

    /// Adds a bar that shows the part of the whole.
    fn of(mut self, part: usize, all: usize) -> Self {
        self.share = Some((part, all));
        self
    }

    fn render(&self, html: &mut String) {
        let _ = writeln!(
            html,
            "<div class=\"tile\">\n<h3>{}</h3>\n<p class=\"figure {}\">{}</p>",
            Text(self.name),
            class(self.state),
            Text(&self.figure)
        );
        if let Some((part, all)) = self.share {
            let _ = writeln!(
                html,
                "<meter min=\"0\" max=\"{all}\" value=\"{part}\">{part} of {all}</meter>"
            );
        }
        let _ = writeln!(html, "<p class=\"more\">{}</p>\n</div>", Text(&self.more));
    }
}

/// A metric with its samples: their labels and values.
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    samples: Vec<(&'a str, &'a str)>,
}

/// Parses the answer of `/metrics` into families, without the buckets of histograms.
fn families(metrics: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in metrics.lines() {
        if let Some((name, help)) =
            (line.strip_prefix("# HELP ")).and_then(|rest| rest.split_once(' '))
        {
            let samples = Vec::new();
            families.push(Family {
                name,
                help,
                samples,
            });
        }
        if line.starts_with('#') {
            continue;
        }
        let (Some((sample, value)), Some(family)) = (line.rsplit_once(' '), families.last_mut())
        else {
            continue;
        };
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let suffix = name.strip_prefix(family.name).unwrap_or(name);
        let which = match suffix {
            "_bucket" => continue,
            // Only the value of a label.
            "" | "_total" | "_info" => labels.split('"').nth(1).unwrap_or_default(),
            suffix => suffix.trim_start_matches('_'),
        };
        family.samples.push((which, value));
    }
    for family in &mut families {
        // The order of labels is arbitrary.
        family.samples.sort_unstable();
    }
    families
}

/// Renders a table of all metrics.
fn figures(metrics: &str, html: &mut String) {
    html.push_str(
        "<div id=\"figures\" role=\"region\" aria-label=\"All figures\" tabindex=\"0\">\n<table>\n<thead><tr>\
         <th scope=\"col\">Metric</th><th scope=\"col\">Of</th><th scope=\"col\" class=\"value\">Value</th></tr></thead>\n",
    );
    for Family {
        name,
        help,
        samples,
    } in families(metrics)
    {
        html.push_str("<tbody>\n");
        for (index, (which, value)) in samples.iter().enumerate() {
            html.push_str("<tr>");
            if index == 0 {
                let rows = samples.len();
                let (name, help) = (Text(name), Text(help));
                let _ = write!(
                    html,
                    "<th scope=\"rowgroup\" rowspan=\"{rows}\"><code>{name}</code> <span>{help}</span></th>"
                );
            }
            let (which, value) = (Text(which), Text(value));
            let _ = writeln!(
                html,
                "<td>{which}</td><td class=\"value\">{value}</td></tr>"
            );
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table>\n</div>\n");
}

/// Text inside an element or attribute of HTML.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn ago(age: Duration) -> String {
    format!("{} ago", span(age))
}

/// Formats a duration in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
