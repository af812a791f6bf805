//! The beat that is on its way.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::notification::Token;
use crate::model::timeline::Tide;

/// The beat that is on its way. Cheap to clone.
///
/// Everybody can hear beats and send what looks like one. So all that travels is a mark that was never used before, and it
/// counts once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected(Arc<Mutex<Option<(Token, u64, Tide)>>>);

impl Expected {
    /// Expects beat `number` of the `tide` from now on, and no other. Returns the mark to send.
    pub(super) fn expect(&self, number: u64, tide: Tide) -> Token {
        let token = Token(rand::random());
        *self.0.lock() = Some((token, number, tide));
        token
    }

    /// Which beat this is, if it is the expected one.
    pub(crate) fn take(&self, token: &Token) -> Option<(u64, Tide)> {
        self.0
            .lock()
            .take_if(|(expected, ..)| expected == token)
            .map(|(_, number, tide)| (number, tide))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_counts_once_and_no_other_does() {
        let (ours, theirs) = (Expected::default(), Expected::default());
        let earlier = ours.expect(1, Tide::of(1, 1, 1));
        let token = ours.expect(2, Tide::of(2, 2, 2));
        assert_eq!(ours.take(&earlier), None);
        assert_eq!(ours.take(&theirs.expect(2, Tide::of(9, 9, 9))), None);
        assert_eq!(ours.take(&token), Some((2, Tide::of(2, 2, 2))));
        assert_eq!(ours.take(&token), None);
    }
}
