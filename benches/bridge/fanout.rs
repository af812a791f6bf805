//! One transaction with ten thousand recipients who are all connected.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::{Effort, Sorted, milliseconds};
use crate::shared::record::{record, rounded};

const STREAMS: usize = 10_000;

const ROUNDS: usize = 5;

/// Between two rounds: until first streams have ended, to learn how late their clients return, and those of the round before.
const SETTLE: Duration = Duration::from_secs(11);

pub(crate) async fn run() {
    let (database, role) = installed(Cluster::shared(), "fanout", Shape::V1_0);
    crowd::populate(&database, STREAMS);
    let icinga = database.connect().await;
    let daemon = shared::daemon(&database, &role);
    let crowd = Crowd::open(&daemon.address, STREAMS);
    let (mut from_sent, mut from_returned) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        std::thread::sleep(SETTLE);
        drop(crowd.wait_for_returns(0));
        drop(crowd.wait_for(0));
        icinga.run("BEGIN").await;
        crowd::write_all(&icinga).await;
        let before = Effort::so_far(daemon.pid(), &database);
        let sent = Instant::now();
        icinga.run("COMMIT").await;
        let returned = Instant::now();
        let arrivals = crowd.wait_for(STREAMS);
        let effort = Effort::so_far(daemon.pid(), &database).since(&before);

        let back = crowd.wait_for_returns(STREAMS);
        let back = back.iter().map(|arrival| arrival.at).max().expect("some");
        let again = Effort::so_far(daemon.pid(), &database).since(&before);
        let received: HashSet<_> = arrivals.iter().map(|arrival| arrival.contact).collect();
        assert_eq!(received.len(), STREAMS, "somebody was told twice");
        let at = |since: Instant| {
            // The first events may arrive before COMMIT has returned.
            let since = |at: Instant| milliseconds(at.saturating_duration_since(since));
            Sorted::new(arrivals.iter().map(|arrival| since(arrival.at)))
        };
        let (after_sent, after_returned) = (at(sent), at(returned));
        println!(
            "round {round}: COMMIT took {:.0} ms; events after COMMIT was sent (after it returned): first {:.0} ({:.0}) ms, \
             median {:.0} ({:.0}) ms, last {:.0} ({:.0}) ms; {effort}; all are back after {:.0} ms; until then {again}",
            milliseconds(returned - sent),
            after_sent.min(),
            after_returned.min(),
            after_sent.median(),
            after_returned.median(),
            after_sent.max(),
            after_returned.max(),
            milliseconds(back - sent),
        );
        record(
            "fanout",
            json!({
                "streams": STREAMS, "commit_ms": milliseconds(returned - sent), "last_ms": after_sent.max(),
                "arrivals_ms": rounded(after_sent.values()), "spent": effort,
                "back_ms": milliseconds(back - sent), "spent_until_back": again,
            }),
        );
        from_sent.push(after_sent.max());
        from_returned.push(after_returned.max());
    }
    let (sent, returned) = (Sorted::new(from_sent), Sorted::new(from_returned));
    println!(
        "last of {STREAMS}, {ROUNDS} rounds: {:.0} ms after COMMIT was sent, {:.0} ms after it returned (medians); \
         worst {:.0} and {:.0} ms (target: no later than nchan, see `peers`)",
        sent.median(),
        returned.median(),
        sent.max(),
        returned.max()
    );
}
