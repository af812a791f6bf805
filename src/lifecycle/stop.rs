//! Stops the daemon: first streams, then accept loops, then positions.

use std::time::Duration;

use log::{info, warn};
use rand::RngExt;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::start::Daemon;
use crate::hub::Hub;
use crate::systemd;

/// How long streams may take to write their final block.
const FINAL_BLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// When browsers reconnect after a stop: a restarted daemon is ready by then, and they do not return all at once.
const RETRY: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(6);

/// How long it may take to store the last positions.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

impl Daemon {
    /// Stops the daemon.
    pub(super) async fn stop(self) {
        self.ready.abort();
        systemd::stopping();
        // While requests are still accepted: they are receipts.
        end_streams(&self.hub, &self.browsers).await;
        self.close.cancel();
        if !self.server.is_finished() {
            // Awaited, because it still answers requests, and removes its Unix socket when it ends.
            let _ = self.server.await;
        }
        self.store.cancel();
        // It may have ended already, which is why the daemon stops: then it must not be awaited again.
        if !self.positions.is_finished() && timeout(STORE_TIMEOUT, self.positions).await.is_err() {
            warn!(
                "positions could not be stored in time: browsers may receive their last events again"
            );
        }
    }
}

/// Ends all streams and waits until they are closed, or for the timeout.
async fn end_streams(hub: &Hub, browsers: &TaskTracker) {
    let streams = hub.streams();
    hub.stop(|| rand::rng().random_range(RETRY));
    if streams > 0 {
        info!("stopping: ending {streams} streams");
    }
    browsers.close();
    if timeout(FINAL_BLOCK_TIMEOUT, browsers.wait()).await.is_err() {
        warn!(
            "closed {} streams that did not finish in time",
            hub.streams()
        );
    }
}
