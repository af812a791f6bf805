//! From the bell to events: looks at the table, and makes events of the rows that are new.

mod bell;
mod fold;
mod gaps;
mod recent;
mod resolver;

pub(crate) use bell::Bell;
pub(crate) use resolver::Resolver;

pub use gaps::Gaps;
