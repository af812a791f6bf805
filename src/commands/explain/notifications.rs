//! The outcome of the last rows that notified the contact.

use serde::Serialize;

use super::browsers::{Bridges, digest};
use super::report::{Report, Status, time};
use crate::commands::Problem;
use crate::config::Kinds;
use crate::database::{ContactRow, NotifiedRow, Session, SignedIn};
use crate::model::explanation::{BrowserState, How};
use crate::model::ids::{HistoryId, IncidentId};
use crate::model::position::Position;
use crate::model::timeline::Epoch;

/// How many rows are examined.
const ROWS: i64 = 10;

/// A row that notified the contact.
#[derive(Debug, Serialize)]
pub(super) struct Notification {
    row: HistoryId,
    incident: IncidentId,
    time_ms: i64,
    state: Option<String>,
    outcome: Outcome,
    browsers: Vec<OfBrowser>,
}

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// Sent to browsers; each has its own state.
    ForBrowsers,
    /// The incident was muted.
    Suppressed,
    /// Its state is one that is never shown.
    NotAnnounced,
    /// `[daemon] notify` filters it.
    Filtered,
}

/// The outcome of a row for one browser.
#[derive(Debug, Serialize)]
struct OfBrowser {
    browser: String,
    #[serde(flatten)]
    state: DeliveryState,
}

/// The state of a row for one browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum DeliveryState {
    /// Its event was acknowledged.
    Acknowledged { at_s: u32 },
    /// An event of another row that covers it was acknowledged.
    Covered { at_s: u32 },
    /// A summary was acknowledged.
    SummedUp { at_s: u32 },
    /// Done, as the stored position says. The time is not known.
    Done,
    /// It was written several times without a receipt, and is not written again.
    GivenUp { at_s: u32 },
    /// It was written, and is not acknowledged yet.
    Written { times: u8 },
    /// It is about to be written.
    Waiting,
    /// It waits until the browser reconnects.
    #[serde(rename = "away")]
    Disconnected,
    /// It was written before the browser signed in.
    BeforeSignIn,
    /// The browser has never had a stream; it starts with rows after its first one.
    #[serde(rename = "never_here")]
    NeverConnected,
    /// Positions cannot be stored.
    Unknown,
}

impl From<(How, u32)> for DeliveryState {
    fn from((how, at_s): (How, u32)) -> Self {
        match how {
            How::Acknowledged => Self::Acknowledged { at_s },
            How::Covered => Self::Covered { at_s },
            How::SummedUp => Self::SummedUp { at_s },
            How::GivenUp => Self::GivenUp { at_s },
        }
    }
}

impl DeliveryState {
    fn status(self) -> Status {
        match self {
            Self::Acknowledged { .. }
            | Self::Covered { .. }
            | Self::SummedUp { .. }
            | Self::Done => Status::Ok,
            Self::BeforeSignIn | Self::NeverConnected | Self::Unknown => Status::Note,
            Self::GivenUp { .. } | Self::Written { .. } | Self::Waiting | Self::Disconnected => {
                Status::Fail
            }
        }
    }

    fn describe(self, browser: &str) -> String {
        match self {
            Self::Acknowledged { at_s } => format!("acknowledged by {browser} at {}", time(at_s)),
            Self::Covered { at_s } => format!(
                "{browser} acknowledged another row's event that covers it, at {}",
                time(at_s)
            ),
            Self::SummedUp { at_s } => {
                format!(
                    "part of a summary for {browser}, which acknowledged that at {}",
                    time(at_s)
                )
            }
            Self::Done => format!(
                "acknowledged by {browser} at an unknown time, or older than its first stream"
            ),
            Self::GivenUp { at_s } => format!(
                "written to {browser} several times, never acknowledged, and given up at {}: run icinga-desktop-bridge check \
                     --url to see whether the proxy forwards the end of streams",
                time(at_s)
            ),
            Self::Written { times } => {
                let s = if times == 1 { "" } else { "s" };
                format!(
                    "written to {browser} {times} time{s}, not acknowledged yet: run explain again in a few seconds, the daemon \
                     writes it again by itself"
                )
            }
            Self::Waiting => {
                format!("about to be written to {browser}: run explain again in a few seconds")
            }
            Self::Disconnected => {
                format!(
                    "waits until {browser} reconnects: open Icinga Web in it, or reload the page if it is open"
                )
            }
            Self::BeforeSignIn => format!("older than the sign-in of {browser}"),
            Self::NeverConnected => format!(
                "not for {browser}, which has had no stream yet, and starts with rows after its first"
            ),
            Self::Unknown => {
                format!("not known whether {browser} acknowledged it: positions are not stored")
            }
        }
    }
}

/// A browser that may have been sent something.
struct Candidate<'a> {
    number: i64,
    /// Its sign-in and its stored position in this epoch, if it is signed in.
    signed_in: Option<(&'a SignedIn, Option<Position>)>,
    /// Whether positions are stored.
    stored: bool,
    states: Vec<&'a BrowserState>,
}

impl Candidate<'_> {
    /// The state of a row; `None` if nothing is known, and the browser is not signed in any more.
    fn state(&self, row: &NotifiedRow) -> Option<DeliveryState> {
        let done = self.states.iter().flat_map(|state| &state.done);
        let done = done.filter(|done| done.row == row.id);
        if let Some(best) = done
            .map(|done| DeliveryState::from((done.how, done.at_s)))
            .min()
        {
            return Some(best);
        }
        let connected = || {
            self.states
                .iter()
                .filter_map(|state| state.connected.as_ref())
        };
        let pending = connected().flat_map(|connected| &connected.pending);
        let written = pending.filter(|pending| pending.row == row.id);
        match written.map(|pending| pending.writes).max() {
            Some(0) => return Some(DeliveryState::Waiting),
            Some(times) => return Some(DeliveryState::Written { times }),
            None => {}
        }
        let (signed_in, position) = self.signed_in.as_ref()?;
        let is_connected = connected().next().is_some();
        Some(match position {
            _ if row.time_ms < signed_in.signed_in_at_ms => DeliveryState::BeforeSignIn,
            Some(position)
                if position.contains(row.id) || Some(row.time_ms) <= position.time_ms() =>
            {
                DeliveryState::Done
            }
            _ if is_connected => DeliveryState::Waiting,
            Some(_) => DeliveryState::Disconnected,
            None if self.stored => DeliveryState::NeverConnected,
            None => DeliveryState::Unknown,
        })
    }
}

/// Reports the outcome of the last rows that notified the contact.
pub(super) async fn explain(
    session: &Session,
    contact: &ContactRow,
    kinds: Kinds,
    signed_in: &[SignedIn],
    bridges: &Bridges,
    report: &mut Report,
) -> Result<(), Problem> {
    let rows = session.last_notified(contact.id, ROWS).await?;
    let epoch = Epoch(session.epoch().await?);
    if rows.is_empty() {
        report.note(
            "notifications",
            "the history has none for this contact, so there was nothing to show. If there should be one, check the event rules of \
             Icinga Notifications",
        );
    }
    let candidates = candidates(signed_in, bridges, &epoch, session.stores_positions());
    for row in rows {
        let outcome = outcome(&row, kinds);
        let states = candidates
            .iter()
            .filter(|_| outcome == Outcome::ForBrowsers);
        let states: Vec<_> = states
            .filter_map(|candidate| Some((digest(candidate.number), candidate.state(&row)?)))
            .collect();
        let (status, what) = verdict(outcome, &states);
        let (id, incident) = (row.id, row.incident_id);
        let when = time(row.time_ms.div_euclid(1000));
        report.add(
            status,
            "notification",
            format!("history row {id}, incident {incident}, {when}: {what}"),
        );
        let of_browser = |(browser, state)| OfBrowser { browser, state };
        report.notifications.push(Notification {
            row: id,
            incident,
            time_ms: row.time_ms,
            state: row.state,
            outcome,
            browsers: states.into_iter().map(of_browser).collect(),
        });
    }
    Ok(())
}

fn outcome(row: &NotifiedRow, kinds: Kinds) -> Outcome {
    if row.state.as_deref() == Some("suppressed") {
        Outcome::Suppressed
    } else if !row.announces {
        Outcome::NotAnnounced
    } else if kinds == Kinds::Severity && !row.of_severity {
        Outcome::Filtered
    } else {
        Outcome::ForBrowsers
    }
}

/// The result for a row.
fn verdict(outcome: Outcome, states: &[(String, DeliveryState)]) -> (Status, String) {
    let note = |text: &str| (Status::Note, text.to_owned());
    match outcome {
        Outcome::Suppressed => note(
            "suppressed, because the incident was muted: Icinga Notifications sent nothing at all",
        ),
        Outcome::NotAnnounced => {
            note("not shown, because of its notification_state: it was never about to be sent")
        }
        Outcome::Filtered => note(
            "not shown, because of [daemon] notify = severity: the incident was not opened then, and its severity did not change",
        ),
        Outcome::ForBrowsers if states.is_empty() => (
            Status::Fail,
            "no signed-in browser could show it".to_owned(),
        ),
        Outcome::ForBrowsers => {
            let said = states
                .iter()
                .map(|(browser, state)| state.describe(browser));
            let any = |status| states.iter().any(|(_, state)| state.status() == status);
            let given_up = states
                .iter()
                .any(|(_, state)| matches!(state, DeliveryState::GivenUp { .. }));
            let status = if given_up {
                Status::Fail
            } else if any(Status::Ok) {
                Status::Ok
            } else if any(Status::Fail) {
                Status::Fail
            } else {
                Status::Note
            };
            (status, said.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The browsers that rows may have been sent to: signed-in ones, and those that bridges remember.
fn candidates<'a>(
    signed_in: &'a [SignedIn],
    bridges: &'a Bridges,
    epoch: &Epoch,
    stored: bool,
) -> Vec<Candidate<'a>> {
    let valid = signed_in
        .iter()
        .filter(|session| session.superseded_by.is_none());
    let mut candidates: Vec<_> = valid
        .map(|session| {
            let position = session.position.clone().map(|stored| stored.within(epoch));
            Candidate {
                number: session.key.number(),
                signed_in: Some((session, position)),
                stored,
                states: Vec::new(),
            }
        })
        .collect();
    for (_, state) in bridges.browsers() {
        match candidates.iter_mut().find(|c| c.number == state.browser) {
            Some(candidate) => candidate.states.push(state),
            None => candidates.push(Candidate {
                number: state.browser,
                signed_in: None,
                stored,
                states: vec![state],
            }),
        }
    }
    candidates
}
