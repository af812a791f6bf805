//! What an administrator sees: log and metrics.

mod health;
pub mod logging;
pub(crate) mod metrics;
mod throttle;

pub(crate) use health::Health;
pub(crate) use throttle::Throttle;
