//! Plain values that the stages pass on.

pub mod event;
pub mod notification;
pub mod position;
