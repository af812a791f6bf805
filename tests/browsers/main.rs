//! The real reverse proxies with the files that are shipped, and a real browser behind them.

mod chromium;
#[path = "../common/mod.rs"]
mod common;
mod proxies;
