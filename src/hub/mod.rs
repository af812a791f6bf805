//! Who is connected, which broadcast channel reaches them, and what they were told already.

mod browsers;
mod memory;
mod positions;
mod refusals;
mod registry;

pub(crate) use memory::Memory;
pub(crate) use positions::Positions;
pub(crate) use registry::{Command, Doubted, Full, Handed, Hub, Mailbox, Message, Place, Seen};
