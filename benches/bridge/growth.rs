//! What grows with the number of streams, and how: memory, sign-in, idle CPU time, fan-out.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::{self, Effort, Sorted, milliseconds, resident};
use crate::shared::record::record;

/// The default of `GROWTH_STREAMS`.
const STREAMS: [usize; 5] = [1000, 2500, 5000, 10_000, 15_000];

/// Until first streams have ended, to learn how late their clients return.
const SETTLE: Duration = Duration::from_secs(12);

/// How long streams are idle, in seconds; the default of `GROWTH_IDLE`. No stream is renewed in this time.
const IDLE: usize = 20;

/// Transactions whose events go to all contacts.
const EVENTS: usize = 3;

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn run() {
    match figures::setting("GROWTH_STREAMS", 0) {
        0 => {
            for streams in STREAMS {
                of(streams).await;
            }
        }
        streams => of(streams).await,
    }
}

async fn of(streams: usize) {
    let (database, role) = installed(Cluster::shared(), "growth", Shape::V1_0);
    crowd::populate(&database, streams);
    let icinga = database.connect().await;
    let daemon = shared::daemon(&database, &role);
    let so_far = || Effort::so_far(daemon.pid(), &database);
    let empty = resident(daemon.pid());

    let (before, start) = (so_far(), Instant::now());
    let crowd = Crowd::open(&daemon.address, streams);
    let rate = streams as f64 / start.elapsed().as_secs_f64();
    let sign_in = so_far().since(&before);
    println!("{streams} streams: {rate:.0} sign-ins a second; {sign_in}");

    sleep(SETTLE);
    let each = (resident(daemon.pid()) as f64 - empty as f64) / streams as f64;
    println!("  {each:.0} bytes per idle stream");

    let seconds = figures::setting("GROWTH_IDLE", IDLE);
    let before = so_far();
    sleep(Duration::from_secs(seconds as u64));
    let idle = so_far().since(&before);
    println!("  {seconds} s idle: {idle}");

    drop(crowd.wait_for_returns(0));
    let (mut lasts, mut delivery, mut until_back) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..EVENTS {
        icinga.run("BEGIN").await;
        crowd::write_all(&icinga).await;
        // Events received twice.
        drop(crowd.wait_for(0));
        let (before, sent) = (so_far(), Instant::now());
        icinga.run("COMMIT").await;
        let arrivals = crowd.wait_for(streams);
        let last = arrivals.iter().map(|arrival| arrival.at).max();
        let last = milliseconds(last.expect("some").saturating_duration_since(sent));
        let spent = so_far().since(&before);
        drop(crowd.wait_for_returns(streams));
        let again = so_far().since(&before);
        println!("  event to all: last after {last:.0} ms; {spent}; until all are back {again}");
        lasts.push(last);
        delivery.push(spent);
        until_back.push(again);
        sleep(PAUSE);
    }
    println!(
        "  last of {streams}, median of {EVENTS}: {:.0} ms",
        Sorted::new(lasts.iter().copied()).median()
    );
    record(
        "growth",
        json!({
            "streams": streams, "sign_ins_per_second": rate, "sign_in": sign_in, "bytes_per_stream": each,
            "idle_seconds": seconds, "idle": idle, "last_ms": lasts, "fanout": delivery, "until_back": until_back,
        }),
    );
}
