//! Our daemon and its PostgreSQL. Each client is a contact, and each has its own rows in the one transaction.

use std::time::{Duration, Instant};

use super::hub::{Hub, Published};
use super::turn::Scale;
use crate::common::daemon::Daemon;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database, Session};
use crate::common::world::installed;
use crate::shared;
use crate::shared::{crowd, figures};

pub(crate) struct Bridge {
    daemon: Daemon,
    icinga: Session,
    database: Database,
    // Dropped last: the others use it.
    _cluster: Cluster,
}

impl Bridge {
    pub(crate) async fn start(scale: &Scale) -> Self {
        let cluster = Cluster::private();
        let (database, role) = installed(&cluster, "peers", Shape::V1_0);
        crowd::populate(&database, scale.streams);
        Self {
            icinga: database.connect().await,
            daemon: shared::daemon(&database, &role),
            database,
            _cluster: cluster,
        }
    }
}

impl Hub for Bridge {
    fn address(&self) -> &str {
        &self.daemon.address
    }

    fn request(&self) -> fn(usize) -> String {
        crowd::sign_in
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }

    fn behind(&self) -> Duration {
        figures::server_cpu(&self.database)
    }

    fn acknowledges(&self) -> bool {
        true
    }

    async fn prepare(&self) {
        self.icinga.run("BEGIN").await;
        crowd::write_all(&self.icinga).await;
    }

    async fn publish(&self, _count: usize) -> Published {
        let sent = Instant::now();
        self.icinga.run("COMMIT").await;
        Published {
            sent,
            answered: Instant::now(),
        }
    }
}
