//! Whether something works that trouble is made for.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

/// A state that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// Whether it works.
    pub(crate) up: bool,
    /// How often it did not.
    pub(crate) troubles: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            up: true,
            troubles: 0,
        }
    }
}

impl Health {
    /// Notes that it does not work, if it does: whether it did.
    pub(crate) fn fails(health: &watch::Sender<Self>) -> bool {
        health.send_if_modified(|health| {
            let news = health.up;
            if news {
                health.up = false;
                health.troubles += 1;
            }
            news
        })
    }

    /// Notes that it works, some time later.
    pub(crate) async fn recovers(health: &watch::Sender<Self>, later: Duration) {
        sleep(later).await;
        health.send_modify(|health| health.up = true);
    }
}
