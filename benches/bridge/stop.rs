//! How long a stop takes: every stream is told when to come back, and positions are stored.

use std::time::Instant;

use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::world::installed;
use crate::crowd::{self, Crowd};
use crate::figures::milliseconds;

const STREAMS: usize = 10_000;

pub(crate) fn run() {
    let (database, role) = installed(Cluster::shared(), "stop", Shape::V1_0);
    crowd::populate(&database, STREAMS);
    let mut daemon = crate::daemon(&database, &role);
    let crowd = Crowd::open(&daemon.address, STREAMS);
    let asked = Instant::now();
    daemon.signal("TERM");
    let status = daemon.wait();
    println!(
        "SIGTERM with {STREAMS} streams: exit code {:?} after {:.0} ms (target: 0 within 5000)",
        status.code(),
        milliseconds(asked.elapsed())
    );
    drop(crowd);
}
