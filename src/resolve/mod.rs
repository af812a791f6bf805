//! From notifications to events.

mod fold;
mod resolver;

pub use fold::{Announcement, Fold};
pub use resolver::Resolver;
