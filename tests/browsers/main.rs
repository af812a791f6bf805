//! The real reverse proxies with the shipped files, and real browsers behind them.

mod at_rest;
mod background;
mod bridges;
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod desktop;
mod popups;
mod proxies;
mod roaming;
mod status_page;
