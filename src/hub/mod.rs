//! Who is connected, which broadcast channel reaches them, and what they have acknowledged.

mod browsers;
mod memory;
mod positions;
mod refusals;
mod registry;

pub(crate) use memory::Memory;
pub(crate) use positions::Positions;
pub(crate) use registry::{
    Command, Full, Handed, Hub, KnownBrowser, Mailbox, Message, Place, Recheck,
};
