//! Whether a program or connection works that the page can break.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

/// A watched state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// Whether it works.
    pub(crate) up: bool,
    /// How often it failed.
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
    /// Records a failure, if there is one; returns whether there is.
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

    /// Records that it works, some time later.
    pub(crate) async fn recovers(health: &watch::Sender<Self>, later: Duration) {
        sleep(later).await;
        health.send_modify(|health| health.up = true);
    }
}
