//! The end: streams first, then positions.

use std::time::Duration;

use log::{info, warn};
use rand::RngExt;
use tokio::time::Instant;

use crate::hub::Hub;

/// How long streams may take to say farewell at a stop.
const FAREWELL: Duration = Duration::from_secs(3);

/// When browsers come back after a stop, in milliseconds: a restarted daemon is there by then, and they
/// do not come all at once.
const COME_BACK_MS: std::ops::Range<u32> = 1000..6000;

/// How long the last positions may take to be stored.
pub(super) const STORE: Duration = Duration::from_secs(1);

/// Ends all streams and waits until they are closed, but not for ever.
pub(super) async fn farewell(hub: &Hub) {
    let streams = hub.streams();
    hub.stop(|| rand::rng().random_range(COME_BACK_MS));
    if streams > 0 {
        info!("stopping: ending {streams} streams");
    }
    let deadline = Instant::now() + FAREWELL;
    while hub.streams() > 0 {
        if Instant::now() >= deadline {
            warn!(
                "{} streams did not take their farewell and are cut",
                hub.streams()
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
