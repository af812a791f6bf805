//! The one session that LISTENs, and the pulse that proves that it hears.

mod beat;
mod listener;
mod pulse;

pub use beat::Expected;
pub use listener::{Listener, Outlets};
pub use pulse::Pulse;
