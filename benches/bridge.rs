//! Measurements of the real daemon on a real PostgreSQL; `benches/README.md` explains each and has the results.
//!
//!     cargo bench --bench bridge [-- NAME...]
//!
//! Nothing is asserted about the figures: they depend on the machine and its other load. Therefore figures to be compared are
//! measured in turns, and a target is a ratio where possible.
#![allow(
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a program that prints, with one future at a time"
)]

#[path = "bridge/bare.rs"]
mod bare;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "bridge/fanout.rs"]
mod fanout;
#[path = "bridge/growth.rs"]
mod growth;
#[path = "bridge/idle.rs"]
mod idle;
#[path = "bridge/incidents.rs"]
mod incidents;
#[path = "bridge/latency.rs"]
mod latency;
#[path = "bridge/look.rs"]
mod look;
#[path = "bridge/memory.rs"]
mod memory;
#[path = "bridge/riders.rs"]
mod riders;
#[path = "shared/mod.rs"]
mod shared;
#[path = "bridge/sign_in.rs"]
mod sign_in;
#[path = "bridge/stop.rs"]
mod stop;
#[path = "bridge/transaction.rs"]
mod transaction;
#[path = "bridge/writer.rs"]
mod writer;

use std::process::{Command, ExitCode};

use common::postgres::Cluster;
use shared::figures;

const NAMES: [&str; 11] = [
    "latency",
    "writer",
    "riders",
    "look",
    "memory",
    "idle",
    "fanout",
    "incidents",
    "growth",
    "sign_in",
    "stop",
];

/// One thread: what must not wait for anything else in this program has its own thread and runtime.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(names) = shared::chosen("measurement", &NAMES) else {
        return ExitCode::FAILURE;
    };
    common::raise_file_limit();
    let [name] = names[..] else {
        return one_by_one(&names);
    };
    let server = Cluster::shared()
        .database("version")
        .connect()
        .await
        .text("SHOW server_version")
        .await;
    println!(
        "\n== {name} ({}, PostgreSQL {server}; load before: {})",
        figures::machine(),
        figures::load()
    );
    match name {
        "latency" => latency::run().await,
        "writer" => writer::run().await,
        "riders" => riders::run().await,
        "look" => look::run().await,
        "memory" => memory::run().await,
        "idle" => idle::run().await,
        "fanout" => fanout::run().await,
        "incidents" => incidents::run().await,
        "growth" => growth::run().await,
        "sign_in" => sign_in::run().await,
        _ => stop::run(),
    }
    println!("load after: {}", figures::load());
    ExitCode::SUCCESS
}

/// Each in its own process and on its own PostgreSQL: none is affected by what another left behind.
fn one_by_one(names: &[&str]) -> ExitCode {
    let this = std::env::current_exe().expect("a program knows its path");
    let failed = |name: &&str| {
        let status = Command::new(&this).arg(name).status();
        !status.expect("it can be started").success()
    };
    if names.iter().any(failed) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A server whose COMMIT waits for the disk, as Icinga's does by default.
async fn durable() -> Cluster {
    let cluster = Cluster::private();
    let session = cluster.database("settings").connect().await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        // One by one: ALTER SYSTEM cannot run in a transaction, and several statements in one text are one.
        session
            .run(&format!("ALTER SYSTEM SET {setting} = on"))
            .await;
    }
    cluster.restart();
    cluster
}
