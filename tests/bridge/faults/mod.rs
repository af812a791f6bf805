//! Everything at once: browsers that behave like EventSource, Icinga writing, and one fault after another.
//!
//! Afterwards each browser must have received what its contact was notified of according to the database: nothing is lost (an
//! incident's newer event may replace its older ones), nothing is foreign, nothing is sent twice, and no stream ended for good.
//!
//! `FAULTS_SEED` repeats a run's choices; `FAULTS_SECONDS` makes it longer or shorter than a minute.

#![allow(
    clippy::print_stdout,
    reason = "the seed and the figures of a run are what it is run for"
)]

mod browser;
mod judge;
mod lateness;
mod stage;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use self::browser::Tab;
use self::judge::{Excuses, judge, truth};
use self::lateness::Lateness;
use self::stage::{Fault, Stage};
use self::writer::{WRITERS, Writer};
use crate::common::wait::{TIMEOUT, eventually_within};

/// Events received within this time before a kill may be sent again: two seconds until its stream ends, half a second until its
/// browser returns, a second until its position is stored. Time in which the position could not be stored does not count.
const FORGIVEN: Duration = Duration::from_millis(4000);
/// How often the daemon or the database has to be woken for that: for the end of the stream, for the return, for the next round
/// of storing, and for the statement in both directions.
const WAKE_UPS: u32 = 5;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_one_fault_after_another_nothing_is_lost_doubled_or_foreign() {
    let seed = setting("FAULTS_SEED", rand::random::<u32>().into());
    let long = Duration::from_secs(setting("FAULTS_SECONDS", 60));
    println!("FAULTS_SEED={seed}");
    let mut stage = Stage::new(seed).await;
    let address = stage.address();
    let tabs = stage.browsers.iter().flat_map(|b| b.tabs(&address));
    let mut tabs: JoinSet<String> = tabs.map(Tab::live).collect();
    stage.daemon().wait_for_nth_log("stream opened", tabs.len());

    let lateness = Lateness::measure();
    let injected = write_under_faults(&mut stage, seed, long).await;
    println!("faults: {injected:?}");
    stage.write_fence().await;
    fenced(&stage, &mut tabs).await;
    // What was written to a dying stream may follow the fence.
    stage.everything_is_acknowledged().await;
    all_are_open(&mut tabs);
    println!(
        "{} tabs, {} faults; woken at most {:?} late",
        tabs.len(),
        injected.len(),
        lateness.worst()
    );
    let excuses = Excuses {
        before_a_kill: FORGIVEN + WAKE_UPS * lateness.worst(),
        late: lateness.moments(),
    };
    let problems = problems(&stage, &excuses).await;
    assert!(
        problems.is_empty(),
        "FAULTS_SEED={seed}\n{}",
        problems.join("\n")
    );
}

/// Runs writers and faults for this time, and returns the faults.
async fn write_under_faults(stage: &mut Stage, seed: u64, long: Duration) -> Vec<Fault> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (contacts, incidents) = (&stage.contacts, &stage.incidents);
        let writer = Writer::new(&stage.database, number, contacts, incidents, seed);
        writers.spawn(writer.write_until(Arc::clone(&stop)));
    }
    let injected = stage.suffer(long).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.expect("the writer does not fail");
    }
    injected
}

/// Waits until every browser has received the fence.
async fn fenced(stage: &Stage, tabs: &mut JoinSet<String>) {
    eventually_within(2 * TIMEOUT, async || {
        all_are_open(tabs);
        let mut browsers = stage.browsers.iter();
        let silent = browsers.find(|b| b.received.lock().expect("not poisoned").fences == 0);
        match silent {
            None => Ok(()),
            Some(silent) => Err(format!(
                "contact {} got no event after the last fault",
                silent.contact
            )),
        }
    })
    .await;
}

/// No tab was given an answer that ends an EventSource.
fn all_are_open(tabs: &mut JoinSet<String>) {
    if let Some(ended) = tabs.try_join_next() {
        panic!("a stream ended for good: {ended:?}");
    }
}

/// The errors in what the browsers received.
async fn problems(stage: &Stage, excuses: &Excuses) -> Vec<String> {
    let truth = truth(stage).await;
    let events: usize = truth.values().map(HashMap::len).sum();
    let mut received = 0;
    let mut problems = Vec::new();
    for browser in &stage.browsers {
        received += browser.received.lock().expect("not poisoned").events.len();
        let expected = &truth[&browser.contact];
        problems.extend(judge(browser, expected, stage, excuses));
    }
    println!(
        "{} browsers, {events} events, {received} received, {} kills",
        stage.browsers.len(),
        stage.kills.len()
    );
    problems
}
