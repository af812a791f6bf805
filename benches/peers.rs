//! The daemon compared with alternatives, on the same machine in turns, with the same clients; `benches/README.md` explains each
//! figure and has the results.
//!
//!     cargo bench --bench peers [-- HUB...]
//!
//! A hub that is not installed is reported, with the command to install it.
#![allow(
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a program that prints, with one future at a time"
)]

#[path = "peers/better_sse.rs"]
mod better_sse;
#[path = "peers/bridge.rs"]
mod bridge;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "peers/hub.rs"]
mod hub;
#[path = "peers/nchan.rs"]
mod nchan;
#[path = "shared/mod.rs"]
mod shared;
#[path = "peers/turn.rs"]
mod turn;

use std::process::ExitCode;

use better_sse::BetterSse;
use bridge::Bridge;
use nchan::{Channels, Nchan};
use shared::figures;
use turn::Scale;

/// By the names on the command line.
const HUBS: [&str; 4] = ["bridge", "nchan", "nchan-channels", "better-sse"];

/// Other alternatives, and what was tried.
const NOT_MEASURED: [&str; 2] = [
    "Mercure, Centrifugo: servers in Go that neither Debian 12 nor crates.io, npm or PyPI has; those have clients only",
    "Pushpin 1.36 of Debian 12: while clients connect 100 at a time it ends one of a hundred streams (\"received message out \
     of sequence, canceling\"); what it keeps costs 84 kB each",
];

/// The default of `PEERS_ROUNDS`.
const ROUNDS: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(mut hubs) = shared::chosen("hub", &HUBS) else {
        return ExitCode::FAILURE;
    };
    common::raise_file_limit();
    let scale = Scale::from_environment();
    let rounds = figures::setting("PEERS_ROUNDS", ROUNDS);
    println!(
        "== peers ({}; load before: {})",
        figures::machine(),
        figures::load()
    );
    println!("{scale}");
    for name in NOT_MEASURED {
        println!("not measured: {name}");
    }
    hubs.retain(|name| installed(name));
    for round in 0..rounds {
        for position in 0..hubs.len() {
            // Each round starts with another one: steady changes affect all alike.
            let hub = hubs[(round + position) % hubs.len()];
            println!("\nround {}, {hub} (load: {})", round + 1, figures::load());
            match hub {
                "bridge" => turn::run(hub, Bridge::start(&scale).await, &scale).await,
                "nchan" => turn::run(hub, Nchan::start(Channels::One), &scale).await,
                "nchan-channels" => turn::run(hub, Nchan::start(Channels::Each), &scale).await,
                _ => turn::run(hub, BetterSse::start(), &scale).await,
            }
        }
    }
    ExitCode::SUCCESS
}

/// Whether a hub can be started; prints the reason if not.
fn installed(name: &str) -> bool {
    let installed = match name {
        "nchan" | "nchan-channels" => nchan::installed(),
        "better-sse" => better_sse::install(),
        _ => Ok(()),
    };
    if let Err(problem) = &installed {
        println!("not measured: {name}: {problem}");
    }
    installed.is_ok()
}
