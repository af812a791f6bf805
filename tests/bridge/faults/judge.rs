//! Compares the notifications of each contact in the database with what its browsers received.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::browser::{Browser, Make};
use super::stage::Stage;

/// Until when events that a browser received are acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_secs(3);

/// By contact and text: the incident, and the highest id of its rows.
pub(super) type Truth = HashMap<i64, HashMap<String, (i64, i64)>>;

/// The notifications of the contacts.
pub(super) async fn truth(stage: &Stage) -> Truth {
    let client = stage
        .database
        .try_connect()
        .await
        .expect("the database is back");
    let sql = "SELECT contact_id, message, incident_id, max(id) FROM incident_history
               WHERE type = 'notified' AND message <> 'fence' GROUP BY 1, 2, 3";
    let rows = client.query(sql, &[]).await.expect("the history");
    let mut truth: Truth = stage
        .browsers
        .iter()
        .map(|b| (b.contact, HashMap::new()))
        .collect();
    for row in rows {
        let of_contact = truth.get_mut(&row.get(0)).expect("a known contact");
        of_contact.insert(row.get(1), (row.get(2), row.get(3)));
    }
    truth
}

/// Why an event may be sent twice.
pub(super) struct Excuses {
    /// It arrived within this time before a kill.
    pub(super) before_a_kill: Duration,
    /// When this machine was too slow for punctual returns.
    pub(super) late: Vec<Instant>,
}

impl Excuses {
    /// Whether the return that acknowledges an event received at `first` may have missed its time, because the daemon was stopped
    /// or this machine was slow. The latter matters only if its time alone is the receipt.
    fn unpunctual(&self, make: Make, first: Instant, stage: &Stage) -> bool {
        let until = first + ACKNOWLEDGED;
        let hindered = |time: &Range<Instant>| time.start <= until && first <= time.end;
        let by_time = make != Make::Firefox;
        stage.hindered.iter().any(hindered)
            || by_time && self.late.iter().any(|late| (first..until).contains(late))
    }
}

/// The errors in what a browser received.
pub(super) fn judge(
    browser: &Browser,
    expected: &HashMap<String, (i64, i64)>,
    stage: &Stage,
    excuses: &Excuses,
) -> Vec<String> {
    let received = browser.received.lock().expect("not poisoned");
    let mut problems = Vec::new();
    let mut problem = |what: &str, text: &str| {
        problems.push(format!(
            "contact {}, agent {}: {what}: {text}",
            browser.contact, browser.agent
        ));
    };
    let mut newest: HashMap<i64, i64> = HashMap::new();
    let mut seen: HashMap<&str, Instant> = HashMap::new();
    for (text, incident, _, at) in &received.events {
        let Some((expected_incident, id)) = expected.get(text) else {
            problem("foreign", text);
            continue;
        };
        if incident != expected_incident {
            problem("of another incident", text);
        }
        let newest = newest.entry(*incident).or_default();
        *newest = (*newest).max(*id);
        if let Some(first) = seen.insert(text, *at) {
            let just_before_a_kill = stage.kills.iter().any(|kill| {
                let time = unhindered(first..*kill.max(&first), &stage.hindered);
                first <= *kill && time <= excuses.before_a_kill
            });
            let late = received.late.iter().any(|late| late.contains(&first));
            if !just_before_a_kill && !late && !excuses.unpunctual(browser.make, first, stage) {
                problem(
                    "twice",
                    &format!("{text}, {:?} apart", at.duration_since(first)),
                );
            }
        }
    }
    let texts: HashSet<&str> = received
        .events
        .iter()
        .map(|(text, ..)| text.as_str())
        .collect();
    for (text, (incident, id)) in expected {
        let stood_for = newest.get(incident).is_some_and(|newest| newest >= id);
        if !texts.contains(text.as_str()) && !stood_for {
            problem("lost", text);
        }
    }
    problems
}

/// How much of a time was outside all `hindered`, which do not overlap.
fn unhindered(time: Range<Instant>, hindered: &[Range<Instant>]) -> Duration {
    let within = hindered.iter().map(|hindered| {
        let (begin, end) = (hindered.start.max(time.start), hindered.end.min(time.end));
        end.saturating_duration_since(begin)
    });
    time.end - time.start - within.sum::<Duration>()
}

#[test]
fn only_time_outside_of_hindrances_counts() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let hindered = [at(2)..at(4), at(6)..at(9)];
    for (time, seconds) in [
        (at(0)..at(1), 1),
        (at(0)..at(3), 2),
        (at(3)..at(8), 2),
        (at(2)..at(4), 0),
        (at(1)..at(10), 4),
    ] {
        assert_eq!(unhindered(time, &hindered), Duration::from_secs(seconds));
    }
}
