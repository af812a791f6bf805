//! What an administrator sees: log and metrics.

mod health;
pub mod logging;
pub(crate) mod metrics;
mod recent;
mod report;
mod throttle;

pub(crate) use health::Health;
pub(crate) use report::Report;
pub(crate) use throttle::Throttle;
