//! The one session that LISTENs, and the pulse that proves that it receives.

mod beat;
mod listener;
mod pulse;

pub(crate) use beat::Expected;
pub(crate) use listener::{Channels, Listener};
pub(crate) use pulse::Pulse;
