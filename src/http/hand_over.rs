//! Carries a place from the handler to the connection that becomes a stream.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::Place;
use crate::model::returned::Returned;

/// The place of a stream and the request for it; its head is in the response that carries this. The connection's task takes it
/// out and hands the connection over.
#[derive(Debug, Clone)]
pub(super) struct HandOver(Arc<Mutex<Option<(Place, Returned)>>>);

impl HandOver {
    pub(super) fn new(place: Place, returned: Returned) -> Self {
        Self(Arc::new(Mutex::new(Some((place, returned)))))
    }

    pub(super) fn take(&self) -> Option<(Place, Returned)> {
        self.0.lock().take()
    }
}
