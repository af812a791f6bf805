//! The way of a place from the handler to the connection that becomes a stream.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::hub::Place;

/// The place of a stream whose head is in the response that carries it. The accept loop takes it out
/// and the connection over.
#[derive(Debug, Clone)]
pub(super) struct HandOver(Arc<Mutex<Option<Place>>>);

impl HandOver {
    pub(super) fn new(place: Place) -> Self {
        Self(Arc::new(Mutex::new(Some(place))))
    }

    pub(super) fn take(&self) -> Option<Place> {
        self.0.lock().take()
    }
}
