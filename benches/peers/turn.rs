//! What is measured of a hub in one turn: how fast clients connect, what idle streams cost, and how fast an event reaches all of
//! them.

use std::collections::HashSet;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::hub::Hub;
use crate::shared::crowd::Crowd;
use crate::shared::figures::{self, Sorted, milliseconds};
use crate::shared::record::{record, rounded};

/// Until everything that opening has started is over: the daemon ends first streams to learn how late their clients return.
const SETTLE: Duration = Duration::from_secs(12);

/// Between two events.
const PAUSE: Duration = Duration::from_secs(2);

/// How much is measured.
pub(crate) struct Scale {
    /// `PEERS_STREAMS`
    pub(crate) streams: usize,
    /// For how many seconds streams are idle: `PEERS_IDLE`.
    idle: usize,
    /// Events in a turn: `PEERS_EVENTS`.
    events: usize,
}

impl Scale {
    pub(crate) fn from_environment() -> Self {
        Self {
            streams: figures::setting("PEERS_STREAMS", 10_000),
            idle: figures::setting("PEERS_IDLE", 20),
            events: figures::setting("PEERS_EVENTS", 3),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            streams,
            idle,
            events,
        } = self;
        write!(
            f,
            "{streams} streams, idle for {idle} s, then {events} events to each"
        )
    }
}

/// CPU time so far: of the hub, of what is behind it, of this program.
fn spent(hub: &impl Hub) -> [Duration; 3] {
    [
        hub.processes().into_iter().map(figures::cpu).sum(),
        hub.behind(),
        figures::cpu(std::process::id()),
    ]
}

/// The CPU time since then, in milliseconds.
fn spent_since(hub: &impl Hub, earlier: [Duration; 3]) -> [f64; 3] {
    let now = spent(hub);
    [0, 1, 2].map(|index| milliseconds(now[index].saturating_sub(earlier[index])).round())
}

/// A turn of a hub that has just been started.
pub(crate) async fn run(name: &str, hub: impl Hub, scale: &Scale) {
    let streams = scale.streams;
    let memory = || figures::resident_together(&hub.processes()) as f64;
    let (empty, before, start) = (memory(), spent(&hub), Instant::now());
    let crowd = Crowd::asking(hub.address(), streams, hub.request());
    let took = start.elapsed();
    let cpu = spent_since(&hub, before);
    let rate = streams as f64 / took.as_secs_f64();
    println!(
        "  connecting: {rate:.0} a second; processor time in ms, of the hub, behind it, of the clients: {cpu:?}"
    );
    record(
        "peers",
        json!({ "what": "connect", "hub": name, "streams": streams, "rate": rate.round(), "cpu_ms": cpu }),
    );

    sleep(SETTLE);
    let each = (memory() - empty) / streams as f64;
    println!(
        "  memory: {:.1} MB without streams, {each:.0} bytes more per idle stream",
        empty / 1e6
    );
    record(
        "peers",
        json!({ "what": "memory", "hub": name, "streams": streams, "empty": empty, "bytes": each.round() }),
    );

    let before = spent(&hub);
    sleep(Duration::from_secs(scale.idle as u64));
    let cpu = spent_since(&hub, before).map(|spent| spent / scale.idle as f64);
    println!(
        "  idle: processor time in ms per second, of the hub, behind it, of the clients: {cpu:.1?}"
    );
    record(
        "peers",
        json!({ "what": "idle", "hub": name, "streams": streams, "seconds": scale.idle, "cpu_ms": cpu }),
    );

    drop(crowd.wait_for_returns(0));
    for _ in 0..scale.events {
        fan_out(name, &hub, &crowd, streams).await;
        sleep(PAUSE);
    }
}

/// One event to each.
async fn fan_out(name: &str, hub: &impl Hub, crowd: &Crowd, streams: usize) {
    hub.prepare().await;
    // Events received twice.
    drop(crowd.wait_for(0));
    let before = spent(hub);
    let published = hub.publish(streams).await;
    let arrivals = crowd.wait_for(streams);
    let cpu = spent_since(hub, before);
    let reached: HashSet<_> = arrivals.iter().map(|arrival| arrival.contact).collect();
    assert_eq!(reached.len(), streams, "each client gets it once");
    let times = Sorted::new(
        arrivals
            .iter()
            .map(|arrival| milliseconds(arrival.at.saturating_duration_since(published.sent))),
    );
    let answered = milliseconds(published.answered - published.sent);
    println!(
        "  event to all: first {:.0} ms, median {:.0} ms, last {:.0} ms after it was sent; publisher had its answer after \
         {answered:.0} ms; processor time {cpu:?}",
        times.min(),
        times.median(),
        times.max(),
    );
    record(
        "peers",
        json!({
            "what": "fanout", "hub": name, "streams": streams, "answered_ms": answered, "last_ms": times.max(),
            "cpu_ms": cpu, "arrivals_ms": rounded(times.values()),
        }),
    );
    if hub.acknowledges() {
        let start = Instant::now();
        drop(crowd.wait_for_returns(streams));
        let cpu = spent_since(hub, before);
        println!(
            "  all are back {:.1} s after the last had it; processor time until then {cpu:?}",
            start.elapsed().as_secs_f64()
        );
        record(
            "peers",
            json!({ "what": "returns", "hub": name, "streams": streams, "cpu_ms": cpu }),
        );
    }
}
