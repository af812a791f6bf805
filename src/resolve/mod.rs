//! From notifications to events.

mod fold;
mod queue;
mod resolver;
mod settling;

pub use fold::{Announcement, Fold};
pub use queue::{QUEUE, Received};
pub use resolver::Resolver;
pub use settling::Settling;
