//! A signed-in browser with a tab behind a proxy.

use crate::common::eventsource::{EventSource, Site};
use crate::common::sse::AGENT;
use crate::common::world::World;

/// A signed-in browser with a tab.
pub(super) struct Browser {
    pub(super) contact: i64,
    pub(super) session_id: String,
    pub(super) tab: EventSource,
}

impl World {
    /// Signs in a browser with a tab open at `site`.
    pub(super) async fn browser(&self, site: &Site) -> Browser {
        let name = format!("user {}", rand::random::<u64>());
        let contact = self.icinga.contact(&name).await;
        let session_id = self.icinga.sign_in(&name, AGENT).await;
        let tab = EventSource::open(site, &session_id).await;
        Browser {
            contact,
            session_id,
            tab,
        }
    }

    /// Notifies each browser of a separate incident, and asserts that this is the next event that each receives. Returns when
    /// that is stored.
    pub(super) async fn next_is_new(&self, browsers: &mut [Browser]) {
        for browser in browsers {
            let written = self.incident(browser.contact, "next").await;
            let event = browser.tab.event().await;
            assert_eq!(event.incident(), written.incident, "{event:?}");
            self.delivered_to(&browser.session_id, written.history[0])
                .await;
        }
    }
}
