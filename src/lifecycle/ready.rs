//! Reports when the start is complete.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::future;
use log::{info, warn};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::database::Queries;
use crate::observe::Health;
use crate::systemd;

/// How long the service manager waits for the start: `systemctl start` and the boot must not hang while the database is
/// unreachable. Browsers are asked to come back later meanwhile.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs that the daemon is ready once it receives notifications and can accept browsers. Notifies the service manager then or
/// after the timeout.
pub(super) async fn report_ready(
    mut beats: watch::Receiver<u64>,
    mut events: Queries,
    mut sessions: Queries,
    mut health: watch::Receiver<Health>,
) -> Infallible {
    let ready = async {
        // A pulse has completed the round trip.
        beats.wait_for(|beats| *beats > 0).await.is_ok()
            && events.session().await.is_some()
            && sessions.session().await.is_some()
            && health.wait_for(|health| health.looked).await.is_ok()
    };
    let mut ready = pin!(ready);
    let early = timeout(READY_TIMEOUT, &mut ready).await;
    systemd::ready();
    let is_ready = match early {
        Ok(is_ready) => is_ready,
        Err(_) => {
            warn!(
                "not ready after {READY_TIMEOUT:?}: browsers are asked to come back later until the database answers"
            );
            ready.await
        }
    };
    if is_ready {
        info!("ready: listening for notifications and serving streams");
    }
    future::pending().await
}
