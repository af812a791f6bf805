//! From the hub to a browser: which events it is sent, on which stream, and what it missed.

pub(crate) mod browser;
mod carried;
mod ended;
mod pace;
mod receipt;
mod replay;
mod stream;

pub(crate) use pace::Pace;
pub(crate) use replay::{Missing, Replay, Replayer, Running};
