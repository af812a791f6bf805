//! From notifications to events.

mod fold;
mod queue;
mod resolver;
mod settling;

pub use fold::{Announcement, Fold};
pub(crate) use queue::{QUEUE, Received};
pub(crate) use resolver::Resolver;
pub use settling::Settling;
