//! What idle streams cost: comments compared with none, and the renewals of streams.

use std::time::Duration;

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::{self, Effort};
use crate::shared::record::record;

const STREAMS: usize = 10_000;

/// Until first streams have ended, to learn how late their clients return.
const SETTLE: Duration = Duration::from_secs(12);

/// How long, in seconds; the default of `IDLE_SECONDS`.
const SECONDS: usize = 300;

pub(crate) async fn run() {
    let (database, role) = installed(Cluster::shared(), "idle", Shape::V1_0);
    crowd::populate(&database, STREAMS);
    let daemon = shared::daemon(&database, &role);
    let opening = Effort::so_far(daemon.pid(), &database);
    let crowd = Crowd::open(&daemon.address, STREAMS);
    let open = Effort::so_far(daemon.pid(), &database);
    println!("{STREAMS} sign-ins: {}", open.since(&opening));
    std::thread::sleep(SETTLE);
    let before = Effort::so_far(daemon.pid(), &database);
    let returns = crowd.wait_for_returns(0).len();
    println!(
        "{} s, {returns} streams renewed: {}",
        SETTLE.as_secs(),
        before.since(&open)
    );
    let seconds = figures::setting("IDLE_SECONDS", SECONDS);
    std::thread::sleep(Duration::from_secs(seconds as u64));
    let effort = Effort::so_far(daemon.pid(), &database).since(&before);
    let returns = crowd.wait_for_returns(0).len();
    println!("{seconds} s, {returns} streams renewed: {effort}");
    record(
        "idle",
        json!({ "streams": STREAMS, "seconds": seconds, "renewed": returns, "spent": effort }),
    );
}
