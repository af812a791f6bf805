//! The end: streams first, then accept loops, then positions.

use std::time::Duration;

use log::{info, warn};
use rand::RngExt;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::start::Daemon;
use crate::hub::Hub;
use crate::systemd;

/// How long streams may take to say farewell at a stop.
const FINAL_BLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// When browsers come back after a stop: a restarted daemon is there by then, and they do not come all at once.
const RETRY: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(6);

/// How long the last positions may take to be stored.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

impl Daemon {
    /// Ends everything that needs an end.
    pub(super) async fn stop(self) {
        self.ready.abort();
        systemd::stopping();
        // Before nobody is let in any more: the browsers' returns are receipts.
        end_streams(&self.hub, &self.browsers).await;
        self.close.cancel();
        if !self.server.is_finished() {
            // Awaited, because a Unix socket is removed when the server is gone, and because it has requests to answer.
            let _ = self.server.await;
        }
        self.store.cancel();
        if timeout(STORE_TIMEOUT, self.positions).await.is_err() {
            warn!(
                "positions could not be stored in time: browsers may be told again what they were told last"
            );
        }
    }
}

/// Ends all streams and waits until they are closed, but not for ever.
async fn end_streams(hub: &Hub, browsers: &TaskTracker) {
    let streams = hub.streams();
    hub.stop(|| rand::rng().random_range(RETRY));
    if streams > 0 {
        info!("stopping: ending {streams} streams");
    }
    browsers.close();
    if timeout(FINAL_BLOCK_TIMEOUT, browsers.wait()).await.is_err() {
        warn!(
            "{} streams did not take their farewell and are cut",
            hub.streams()
        );
    }
}
