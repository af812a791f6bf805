//! The beat that is on its way through the database.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::notification::Token;

/// The beat that is expected back. Cheap to clone.
///
/// Every role can receive beats and send forged ones. So a beat carries only a random number, which is new each time and accepted
/// once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected(Arc<Mutex<Option<(Token, u64)>>>);

impl Expected {
    /// Expects beat `number` from now on, and no other. Returns the random number to send.
    pub(super) fn expect(&self, number: u64) -> Token {
        let token = Token(rand::random());
        *self.0.lock() = Some((token, number));
        token
    }

    /// The number of this beat, if it is the expected one.
    pub(crate) fn take(&self, token: &Token) -> Option<u64> {
        let taken = self.0.lock().take_if(|(expected, _)| expected == token);
        taken.map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_counts_once_and_no_other_does() {
        let (ours, theirs) = (Expected::default(), Expected::default());
        let earlier = ours.expect(1);
        let token = ours.expect(2);
        assert_eq!(ours.take(&earlier), None);
        assert_eq!(ours.take(&theirs.expect(2)), None);
        assert_eq!(ours.take(&token), Some(2));
        assert_eq!(ours.take(&token), None);
    }
}
