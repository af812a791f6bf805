//! The real reverse proxies with the files that are shipped, and a real browser behind them.

mod at_rest;
mod bridges;
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod popups;
mod proxies;
