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

/// Until everything that an opening or an event has started is over, including the renewals after an event.
const SETTLE: Duration = Duration::from_secs(3);

/// Longer than the time after which a comment is written to every stream.
const KEEP_ALIVES: Duration = Duration::from_secs(20);

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
    std::thread::sleep(SETTLE);
    show("10,000 idle streams", " (target: at most 2)");
    std::thread::sleep(KEEP_ALIVES);
    show("after a keep-alive comment to each", "");
    for round in 1..=3 {
        crowd::notify_all(&icinga).await;
        crowd.wait_for(STREAMS);
        show(&format!("as event {round} has reached each"), "");
        std::thread::sleep(SETTLE);
        show(&format!("{} s later", SETTLE.as_secs()), "");
    }
    drop(crowd);
    std::thread::sleep(SETTLE);
    show("all streams closed", "");
    let _again = Crowd::open(&daemon.address, STREAMS);
    std::thread::sleep(SETTLE);
    show("10,000 opened once more", "");
}
