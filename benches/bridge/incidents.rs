//! One transaction with a hundred incidents, each with a thousand recipients: a hundred thousand events.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::{Effort, Sorted, milliseconds};
use crate::shared::record::{record, rounded};

const INCIDENTS: usize = 100;

/// Recipients per incident.
const RECIPIENTS: usize = 1000;

/// The recipients: the same thousand each time, or ten thousand, each of them for ten incidents.
const STREAMS: [usize; 2] = [1000, 10_000];

const ROUNDS: usize = 3;

/// Until everything that opening the streams has started is over.
const SETTLE: Duration = Duration::from_secs(12);

/// Between two rounds, until all clients have returned.
const PAUSE: Duration = Duration::from_secs(11);

pub(crate) async fn run() {
    for streams in STREAMS {
        of(streams).await;
    }
}

async fn of(streams: usize) {
    let events = INCIDENTS * RECIPIENTS;
    let (database, role) = installed(Cluster::shared(), "incidents", Shape::V1_0);
    crowd::populate(&database, streams);
    let icinga = database.connect().await;
    let daemon = shared::daemon(&database, &role);
    let crowd = Crowd::open(&daemon.address, streams);
    std::thread::sleep(SETTLE);
    for round in 1..=ROUNDS {
        icinga.run("BEGIN").await;
        crowd::write_incidents(&icinga, INCIDENTS, RECIPIENTS, streams).await;
        // Events received twice.
        drop(crowd.wait_for(0));
        let before = Effort::so_far(daemon.pid(), &database);
        let sent = Instant::now();
        icinga.run("COMMIT").await;
        let returned = Instant::now();
        let mut arrivals = HashMap::with_capacity(events);
        let mut again = 0;
        while arrivals.len() < events {
            for arrival in crowd.wait_for(1) {
                match arrivals.entry((arrival.contact, arrival.digest)) {
                    Entry::Vacant(entry) => _ = entry.insert(arrival.at),
                    Entry::Occupied(_) => again += 1,
                }
            }
        }
        let spent = Effort::so_far(daemon.pid(), &database).since(&before);

        let since = |at: Instant| milliseconds(at.saturating_duration_since(sent));
        let times = Sorted::new(arrivals.values().map(|at| since(*at)));
        println!(
            "{INCIDENTS} incidents for {RECIPIENTS} of {streams} each, round {round}: COMMIT took {:.0} ms; events after it \
             was sent: first {:.0} ms, median {:.0} ms, last {:.0} ms; {again} came twice; {spent}",
            since(returned),
            times.min(),
            times.median(),
            times.max(),
        );
        let sample = times.values().step_by(events / 1000);
        record(
            "incidents",
            json!({
                "streams": streams, "incidents": INCIDENTS, "recipients": RECIPIENTS, "commit_ms": since(returned), "twice": again,
                "last_ms": times.max(), "each_hundredth_ms": rounded(sample), "spent": spent,
            }),
        );
        std::thread::sleep(PAUSE);
    }
}
