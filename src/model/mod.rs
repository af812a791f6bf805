//! Plain values that the stages exchange.

pub mod browser;
pub(crate) mod database_session;
pub mod event;
pub(crate) mod explanation;
pub mod ids;
pub mod notification;
pub mod position;
pub mod returned;
pub mod sign_in;
pub mod snapshot;
pub mod timeline;
