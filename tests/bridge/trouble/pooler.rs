//! PgBouncer between the daemon and the database.

use super::{aftermath, check, expect, notify};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::pgbouncer::PgBouncer;
use crate::common::postgres::Cluster;
use crate::common::world::{World, installed};

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_named_as_the_cause() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "transaction", Shape::V1_0);
    let pooler = PgBouncer::start(&database, &role, "transaction");
    let resource = pooler.resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("PgBouncer"), "{text}");
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource);
    let daemon = Daemon::launch(config);
    let line = daemon.wait_for_log("PgBouncer");
    assert!(line.contains("connect to PostgreSQL itself"), "{line}");
}

#[tokio::test]
async fn pgbouncer_in_session_mode_works() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "session", Shape::V1_0);
    let pooler = PgBouncer::start(&database, &role, "session");
    let resource = pooler.resource(&database, &role);
    let (code, text) = check(&resource);
    assert_eq!(code, Some(0), "{text}");
    let world = World::reached_by(database, role, Shape::V1_0, &resource).await;
    let mut alice = world.user("alice").await;
    for _ in 0..3 {
        let written = notify(&world.icinga, &[alice.contact]).await;
        expect(&mut alice, &written).await;
    }
    aftermath(&world, &mut [&mut alice], &[]).await;
    assert!(!world.daemon.log().contains("PgBouncer"));
}
