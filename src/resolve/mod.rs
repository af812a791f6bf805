//! From the bell to events: looks at the tables, and makes events from new rows.

mod bell;
mod fold;
mod gaps;
mod recent;
mod resolver;

pub(crate) use bell::Bell;
pub(crate) use resolver::Resolver;

pub use gaps::Gaps;
