//! The bell: wakes the resolver when there is something to look for. Bells are coalesced, not queued.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::ids::IncidentId;

/// The maximum number of announced incidents that wait for a look: more than an import changes at a time, at 8 bytes each.
const MAX_INCIDENTS: usize = 1 << 17;

/// A handle to the bell. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wake: Notify,
    rung: Mutex<Rung>,
}

/// What was received since the last look.
#[derive(Debug, Default)]
pub(crate) struct Rung {
    /// When the first bell or announcement was received.
    pub(super) since: Option<Instant>,
    /// Announced incidents: according to a notification, their severity was changed without Icinga Notifications.
    pub(super) incidents: BTreeSet<IncidentId>,
    /// Notifications may have been missed, because no session was listening.
    pub(super) gap: bool,
}

impl Bell {
    /// Reports that rows were committed.
    pub(crate) fn ring(&self) {
        self.0.rung.lock().since.get_or_insert_with(Instant::now);
        self.0.wake.notify_one();
    }

    /// Reports that an incident's severity was changed, according to a notification. Returns false if too many are waiting.
    pub(crate) fn announce(&self, incident_id: IncidentId) -> bool {
        let mut rung = self.0.rung.lock();
        let fits = rung.incidents.len() < MAX_INCIDENTS;
        if fits {
            rung.since.get_or_insert_with(Instant::now);
            rung.incidents.insert(incident_id);
        }
        drop(rung);
        self.0.wake.notify_one();
        fits
    }

    /// Reports that bells may have been missed until now.
    pub(crate) fn gap(&self) {
        self.0.rung.lock().gap = true;
        self.0.wake.notify_one();
    }

    /// Waits until something is received.
    pub(super) async fn wait(&self) {
        self.0.wake.notified().await;
    }

    /// Whether a bell or an announcement was received that was not taken yet.
    pub(super) fn is_rung(&self) -> bool {
        self.0.rung.lock().since.is_some()
    }

    /// Takes what was received.
    pub(super) fn take(&self) -> Rung {
        std::mem::take(&mut self.0.rung.lock())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn bells_are_coalesced() {
        let bell = Bell::default();
        assert!(bell.wait().now_or_never().is_none());
        for _ in 0..3 {
            bell.ring();
            assert!(bell.announce(IncidentId(7)));
        }
        bell.gap();
        assert!(bell.wait().now_or_never().is_some());
        assert!(bell.wait().now_or_never().is_none());
        assert!(bell.is_rung());
        let rung = bell.take();
        assert!(!bell.is_rung());
        assert!(rung.since.is_some() && rung.gap && rung.incidents.len() == 1);
        let rung = bell.take();
        assert!(rung.since.is_none() && !rung.gap && rung.incidents.is_empty());
    }

    #[test]
    fn announced_incidents_are_bounded() {
        let bell = Bell::default();
        let announced = (0..2 * MAX_INCIDENTS as i64).filter(|id| bell.announce(IncidentId(*id)));
        assert_eq!(announced.count(), MAX_INCIDENTS);
    }
}
