//! The user's browsers: their sign-ins, their streams on each bridge, and refused requests.

use serde::Serialize;

use super::report::{Report, Status, span, time};
use crate::database::SignedIn;
use crate::model::explanation::{BrowserState, Connected, Explanation, Other, Refused, Why};
use crate::model::sign_in::Refusal;

/// How many sessions of a user are examined, newest first.
pub(super) const SESSIONS: i64 = 32;

/// How many characters of a user agent are shown.
const AGENT_CHARACTERS: usize = 80;

/// What the bridges that answered know.
#[derive(Debug, Default)]
pub(super) struct Bridges(Vec<(i64, Explanation)>);

impl Bridges {
    pub(super) fn add(&mut self, bridge: i64, explanation: Explanation) {
        self.0.push((bridge, explanation));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of the bridges.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(bridge, _)| name(*bridge)).collect()
    }

    /// What each bridge knows of a browser, with the bridge's name.
    pub(super) fn of(&self, browser: i64) -> impl Iterator<Item = (i64, &BrowserState)> {
        self.browsers()
            .filter(move |(_, state)| state.browser == browser)
    }

    /// What each bridge knows of all browsers.
    pub(super) fn browsers(&self) -> impl Iterator<Item = (i64, &BrowserState)> {
        (self.0.iter()).flat_map(|(bridge, explanation)| {
            let states = explanation.browsers.iter();
            states.map(|state| (*bridge, state))
        })
    }

    /// Whether a bridge has streams of a browser.
    fn has(&self, browser: i64) -> bool {
        self.of(browser).any(|(_, state)| state.connected.is_some())
    }
}

fn name(bridge: i64) -> String {
    format!("{bridge:016x}")
}

/// The digits that also identify the browser in a log.
pub(super) fn digest(browser: i64) -> String {
    let [a, b, c, ..] = browser.to_be_bytes();
    format!("{a:02x}{b:02x}{c:02x}")
}

/// A session of Icinga Web.
#[derive(Debug, Serialize)]
pub(super) struct SignedInBrowser {
    browser: String,
    user_agent: String,
    signed_in_at_ms: i64,
    superseded_by: Option<String>,
}

/// A browser's streams on a bridge.
#[derive(Debug, Serialize)]
pub(super) struct Streams {
    browser: String,
    bridge: String,
    open: usize,
    since_s: u32,
    returned_s: u32,
    acknowledges: bool,
    unacknowledged: usize,
    last_event_id: bool,
    late_ms: Option<u16>,
    forwarded_for: bool,
}

/// A browser that was refused.
#[derive(Debug, Serialize)]
pub(super) struct RefusedBrowser {
    browser: String,
    bridge: String,
    reason: Why,
    at_s: u32,
    count: u32,
    over: bool,
}

/// Reports where the user is signed in.
pub(super) fn signed_in(signed_in: &[SignedIn], session_days: u32, report: &mut Report) {
    if signed_in.is_empty() {
        report.fail(
            "browsers",
            "the user is not signed in to Icinga Web: sign in. If the user is, sign out and in again: Icinga Web records a browser \
             only while the module is enabled",
        );
    }
    for session in signed_in {
        let browser = digest(session.key.number());
        let age = session.age_ms / 1000;
        let agent = shorten(&session.user_agent);
        let what = format!(
            "{browser} ({}): signed in {} ago",
            agent.escape_debug(),
            span(age)
        );
        let superseded_by = session.superseded_by.map(|key| digest(key.number()));
        if let Some(by) = &superseded_by {
            report.fail(
                "browser",
                format!(
                    "{what}, and superseded by {by}, which signed in later with the same user agent: only the last one is \
                     accepted. Sign in again in the browser that should get popups"
                ),
            );
        } else if age >= i64::from(session_days) * 86_400 {
            report.fail(
                "browser",
                format!(
                    "{what}, longer than [daemon] session_days = {session_days} allows: it ends within an hour. Sign in again"
                ),
            );
        } else {
            report.ok(
                "browser",
                format!("{what}, for at most {session_days} days"),
            );
        }
        report.browsers.push(SignedInBrowser {
            browser,
            user_agent: agent,
            signed_in_at_ms: session.signed_in_at_ms,
            superseded_by,
        });
    }
}

fn shorten(agent: &str) -> String {
    let mut characters = agent.chars();
    let mut short: String = characters.by_ref().take(AGENT_CHARACTERS).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// Reports which bridges have streams of the user's browsers.
pub(super) fn streams(signed_in: &[SignedIn], bridges: &Bridges, report: &mut Report) {
    let valid = || {
        signed_in
            .iter()
            .filter(|session| session.superseded_by.is_none())
    };
    let any = valid().any(|session| bridges.has(session.key.number()));
    for session in valid() {
        let number = session.key.number();
        let browser = digest(number);
        let mut connected = 0;
        for (bridge, state) in bridges.of(number) {
            let Some(state) = &state.connected else {
                continue;
            };
            connected += 1;
            let bridge = name(bridge);
            report.ok(
                "streams",
                format!("{browser}: {}", streams_at(&bridge, state)),
            );
            report.streams.push(Streams {
                browser: browser.clone(),
                bridge,
                open: state.streams,
                since_s: state.since_s,
                returned_s: state.returned_s,
                acknowledges: state.acknowledges,
                unacknowledged: state.unacknowledged,
                last_event_id: state.names,
                late_ms: state.late_ms,
                forwarded_for: state.forwarded,
            });
        }
        match connected {
            0 if any => report.note(
                "streams",
                format!("{browser}: none, so it shows nothing while Icinga Web is not open in it"),
            ),
            0 => report.fail(
                "streams",
                format!(
                    "{browser}: none. Open Icinga Web in it, with desktop notifications enabled; if it is open, reload the page: a page \
                     does not reconnect after it was refused. icinga-desktop-bridge check checks the bridge, and with --url the reverse proxy"
                ),
            ),
            1 => {}
            count => report.fail(
                "streams",
                format!(
                    "{browser}: on {count} bridges, so everything is shown twice: let the proxy keep a browser on one bridge \
                     (nginx: hash $cookie_Icingaweb2 consistent)"
                ),
            ),
        }
    }
}

fn streams_at(bridge: &str, connected: &Connected) -> String {
    let open = match connected.streams {
        0 => "no stream at this moment, because the browser is reconnecting,".to_owned(),
        count => format!("{count} open"),
    };
    let receipt = if connected.acknowledges {
        "which acknowledged what it had read"
    } else {
        "which acknowledged nothing"
    };
    let events = match connected.unacknowledged {
        1 => "1 event is".to_owned(),
        count => format!("{count} events are"),
    };
    let reads = match (connected.names, connected.late_ms) {
        (true, _) => "the browser sends Last-Event-ID".to_owned(),
        (false, Some(late)) => {
            format!("the browser does not send Last-Event-ID, and usually returns {late} ms late")
        }
        (false, None) => "the browser has not returned yet".to_owned(),
    };
    let forwarded = if connected.forwarded { "" } else { "no " };
    format!(
        "{open} on bridge {bridge}, connected since {}, last request {}, {receipt}; {events} not acknowledged yet; {reads}; the \
         proxy sends {forwarded}X-Forwarded-For",
        time(connected.since_s),
        time(connected.returned_s),
    )
}

/// Reports refused requests of the user's browsers.
pub(super) fn refusals(signed_in: &[SignedIn], bridges: &Bridges, report: &mut Report) {
    let mut refusals: Vec<(i64, Refused)> = Vec::new();
    for (bridge, explanation) in &bridges.0 {
        refusals.extend(
            explanation
                .refusals
                .iter()
                .map(|refused| (*bridge, *refused)),
        );
    }
    if refusals.is_empty() && bridges.len() > 0 {
        report.ok(
            "refused",
            "no browser of this user since the bridges were started",
        );
    }
    refusals.sort_by_key(|(_, refused)| refused.at_s);
    for (bridge, refused) in refusals {
        let is_valid =
            |s: &SignedIn| s.key.number() == refused.browser && s.superseded_by.is_none();
        let waits =
            signed_in.iter().any(is_valid) && !refused.over && !bridges.has(refused.browser);
        let (status, then) = match refused.why {
            Why::Refused(_) if waits => (
                Status::Fail,
                ". Its page does not reconnect by itself: reload it",
            ),
            Why::Other(Other::Full) if waits => (Status::Fail, ""),
            _ => (Status::Note, ""),
        };
        let browser = digest(refused.browser);
        let count = match refused.count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        report.add(
            status,
            "refused",
            format!(
                "{browser} at {}{count}: {}{then}",
                time(refused.at_s),
                why(refused.why)
            ),
        );
        report.refusals.push(RefusedBrowser {
            browser,
            bridge: name(bridge),
            reason: refused.why,
            at_s: refused.at_s,
            count: refused.count,
            over: refused.over,
        });
    }
}

/// Why a browser got no stream, and what to do.
fn why(why: Why) -> &'static str {
    let refusal = match why {
        Why::Refused(refusal) => refusal,
        Why::Other(Other::Ended) => {
            return "its streams were ended, because it signed out, the same browser signed in again, or the contact was changed";
        }
        Why::Other(Other::Full) => {
            return "the bridge had its maximum number of streams: raise the limit on open files (with systemd: LimitNOFILE=)";
        }
    };
    match refusal {
        // For the first two, the browser is unknown.
        Refusal::NoCookie | Refusal::Malformed | Refusal::UnknownSession => {
            "its session does not exist any more: sign in again in it, unless it signed out on purpose"
        }
        Refusal::UserAgent => {
            "its user agent has changed since it signed in, for example by an update: sign out and in again"
        }
        Refusal::Superseded => {
            "the same browser signed in again since, or another one with the same user agent: only the last one counts"
        }
        Refusal::NoContact => "there was no contact for its user at that time",
    }
}
