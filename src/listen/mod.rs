//! The one session that LISTENs, and the pulse that proves that it hears.

mod listener;
mod pulse;

pub use listener::{Listener, Outlets, QUEUE, Received};
pub use pulse::{Expected, Pulse, Settling};
