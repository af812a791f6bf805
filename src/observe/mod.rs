//! What an administrator sees: log and metrics.

pub mod logging;
pub(crate) mod metrics;
mod throttle;

pub(crate) use throttle::Throttle;
