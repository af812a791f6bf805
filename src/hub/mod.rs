//! Who is connected, which broadcast channel reaches them, and what they were told already.

mod positions;
mod registry;

pub use positions::Positions;
pub use registry::*;
