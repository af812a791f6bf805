//! The commands that end by themselves, and how they say what is wrong.

pub mod check;
pub mod check_health;
mod problem;
pub mod send_test;

use problem::Problem;
