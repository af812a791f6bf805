//! The packages, and their life in a booted systemd.

mod ansible;
mod by_hand;
#[path = "../common/mod.rs"]
mod common;
mod contents;
mod deb;
mod director;
mod displaced;
mod dnf;
mod leftovers;
mod man_page;
mod migration;
mod parsed;
mod releasing;
mod reproducible;
mod rpm;
mod sandbox;
mod selinux;
mod service;
mod shipped;
mod steps;
