//! What an administrator sees: log, metrics and health.

mod health;
mod judgement;
pub mod logging;
pub(crate) mod metrics;
mod recent;
mod report;
mod throttle;

pub(crate) use health::Health;
pub use judgement::State;
pub(crate) use judgement::{Finding, SLOW, TOO_SLOW, milliseconds};
pub(crate) use report::Report;
pub(crate) use throttle::Throttle;
