//! What an idle stream costs the daemon.

use std::time::Duration;

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::resident;
use crate::shared::record::record;

const STREAMS: usize = 10_000;

/// Until all sign-ins are over, but most streams have not been renewed yet.
const SIGNED_IN: Duration = Duration::from_secs(3);

/// Until everything that an opening, an event or a disconnection has started is over: streams are renewed, comments are written, and
/// ended streams are remembered for 10 seconds.
const SETTLE: Duration = Duration::from_secs(25);

pub(crate) async fn run() {
    let (database, role) = installed(Cluster::shared(), "memory", Shape::V1_0);
    crowd::populate(&database, STREAMS);
    let icinga = database.connect().await;
    let daemon = shared::daemon(&database, &role);
    let before = resident(daemon.pid());
    println!("no stream yet: {} KB", before / 1024);
    let show = |what: &str, target: &str| {
        let now = resident(daemon.pid());
        println!(
            "{what}: {} KB, {:.2} KB per stream{target}",
            now / 1024,
            (now as f64 - before as f64) / 1024.0 / STREAMS as f64
        );
        record(
            "memory",
            json!({ "moment": what, "streams": STREAMS, "resident": now, "without_streams": before }),
        );
    };

    let crowd = Crowd::open(&daemon.address, STREAMS);
    std::thread::sleep(SIGNED_IN);
    show("10,000 idle streams", " (target: at most 2)");
    std::thread::sleep(SETTLE);
    show("all renewed, and a comment written to each", "");
    for round in 1..=3 {
        crowd::notify_all(&icinga).await;
        crowd.wait_for(STREAMS);
        show(&format!("as event {round} has reached each"), "");
        std::thread::sleep(SETTLE);
        show(&format!("{} s later", SETTLE.as_secs()), "");
    }
    drop(crowd);
    std::thread::sleep(SETTLE);
    show(&format!("{} s after all were closed", SETTLE.as_secs()), "");
    let _again = Crowd::open(&daemon.address, STREAMS);
    std::thread::sleep(SETTLE);
    show("10,000 opened once more", "");
}
