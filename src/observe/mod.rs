//! What an administrator sees: log and metrics.

pub mod logging;
pub mod metrics;
mod throttle;

pub use throttle::Throttle;
