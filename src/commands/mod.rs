//! The commands that end by themselves.

pub mod check;
pub mod send_test;
