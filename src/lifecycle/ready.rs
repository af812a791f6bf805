//! When start-up is over.

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

/// How long the service manager is kept waiting for a start to be over: `systemctl start` and the boot shall not hang
/// because the database is away, while browsers are answered and told to come back.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Says so in the log once notifications are heard and browsers can be let in, and to the service manager then or when
/// its patience is at an end.
pub(super) async fn report_ready(
    mut beats: watch::Receiver<u64>,
    mut events: Queries,
    mut sessions: Queries,
    mut health: watch::Receiver<Health>,
) -> Infallible {
    let ready = async {
        // A pulse went all the way: nothing proves more.
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
                "not ready after {READY_TIMEOUT:?}: browsers are told to come back until the database answers"
            );
            ready.await
        }
    };
    if is_ready {
        info!("ready: listening for notifications and serving streams");
    }
    future::pending().await
}
