//! Who is connected, which broadcast channel reaches them, and what they were told already.

mod memory;
mod positions;
mod registry;

pub use memory::{Memory, Remembered};
pub use positions::{Positions, Told};
pub use registry::{Command, Full, Handed, Hub, MAX_STREAMS, Mailbox, Message, Place};
