//! How long a stop takes: every stream gets its final block, and positions are stored.

use std::time::Instant;

use serde_json::json;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::shared;
use crate::shared::crowd::{self, Crowd};
use crate::shared::figures::milliseconds;
use crate::shared::record::record;

const STREAMS: usize = 10_000;

pub(crate) fn run() {
    let (database, role) = installed(Cluster::shared(), "stop", Shape::V1_0);
    crowd::populate(&database, STREAMS);
    let mut daemon = shared::daemon(&database, &role);
    let crowd = Crowd::open(&daemon.address, STREAMS);
    let asked = Instant::now();
    daemon.signal("TERM");
    let status = daemon.wait();
    let took = milliseconds(asked.elapsed());
    println!(
        "SIGTERM with {STREAMS} streams: exit code {:?} after {took:.0} ms (target: 0 within 5000)",
        status.code(),
    );
    record(
        "stop",
        json!({ "streams": STREAMS, "exit_code": status.code(), "took_ms": took }),
    );
    drop(crowd);
}
