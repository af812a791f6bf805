//! `check-health`, the plugin: exit codes, text and performance data of the Monitoring Plugins, and an end in any case.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::common::admin::{
    MONITORED, admin_address, monitored, wait_for_metrics, wait_for_readiness,
};
use crate::common::command::Said;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::perfdata::{Figure, figures};
use crate::common::postgres::Cluster;
use crate::common::wait::eventually;
use crate::common::world::{World, installed, resource};

/// A configuration without an admin address.
fn unmonitored() -> ConfigDir {
    ConfigDir::new("", "dbname = x\nusername = x")
}

/// Runs the plugin in a separate thread: clients continue meanwhile.
async fn plugin(arguments: &[&str]) -> Said {
    let arguments: Vec<String> = (["check-health"].iter().chain(arguments))
        .map(ToString::to_string)
        .collect();
    let asked = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Said::with(&unmonitored(), &arguments)
    };
    tokio::task::spawn_blocking(asked).await.expect("no panic")
}

fn expect(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, Some(code), "{said}");
    let state = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(code).expect("a state")];
    let begin = format!("DESKTOP-BRIDGE {state}: ");
    assert!(said.stdout.starts_with(&begin), "{said}");
    for part in parts {
        assert!(said.stdout.contains(part), "{part}: {said}");
    }
    assert!(said.stderr.is_empty(), "{said}");
}

fn value(figures: &[Figure], label: &str) -> Option<f64> {
    let figure = figures.iter().find(|figure| figure.label == label);
    figure.map(|figure| figure.value)
}

#[tokio::test]
async fn a_daemon_that_works_is_ok_and_its_figures_are_there() {
    let (world, admin) = monitored(Cluster::shared(), "ok").await;
    let said = plugin(&["--admin", &admin]).await;
    expect(
        &said,
        0,
        &[
            "0 streams of 0 users, 3 of 3 database sessions up",
            "no event in 5 minutes",
        ],
    );
    assert_eq!(said.stdout.lines().count(), 1, "{said}");
    let seen = figures(&said.stdout);
    assert_eq!(value(&seen, "latency_p95"), None, "{said}");

    let alice = world.user("alice").await;
    let mut second = world.open(&alice.session_id).await;
    world.incident(alice.contact, "db1!disk").await;
    second.event().await;
    wait_for_metrics(
        &admin,
        &[
            ("events_total{outcome=\"delivered\"}", 1.0),
            ("streams", 2.0),
        ],
    )
    .await;
    let said = plugin(&["--admin", &admin]).await;
    expect(
        &said,
        0,
        &[
            "2 streams of 1 users, 3 of 3 database sessions up",
            "p95 latency ",
        ],
    );
    let seen = figures(&said.stdout);
    let of = |label| value(&seen, label).unwrap_or_else(|| panic!("no {label}: {said}"));
    assert_eq!(
        [of("streams"), of("users"), of("sessions_up")],
        [2.0, 1.0, 3.0],
        "{said}"
    );
    assert_eq!(of("events_without_receipt"), 0.0, "{said}");
    assert!(of("round_age") < 30.0, "{said}");
    assert!(of("latency_p95") > 0.0 && of("latency_p95") < 5.0, "{said}");
    for (label, unit) in [
        ("round_age", "s"),
        ("latency_p95", "s"),
        ("streams", ""),
        ("users", ""),
    ] {
        let figure = seen.iter().find(|figure| figure.label == label);
        assert_eq!(figure.expect("found before").unit, unit, "{said}");
    }
}

#[tokio::test]
async fn thresholds_judge_the_latency() {
    let (world, admin) = monitored(Cluster::shared(), "thresholds").await;
    let slow = ["--admin", &admin, "--warning", "~:-1", "--critical", "~:-1"];
    // Without an event there is nothing to judge.
    expect(&plugin(&slow).await, 0, &["no event in 5 minutes"]);
    let mut alice = world.user("alice").await;
    world.incident(alice.contact, "db1!disk").await;
    alice.tab.event().await;
    wait_for_metrics(&admin, &[("event_latency_seconds_count", 1.0)]).await;
    let said = plugin(&slow).await;
    expect(
        &said,
        2,
        &[
            "events take ",
            " ms (--critical ~:-1); ",
            "\na slow database",
        ],
    );
    let seen = figures(&said.stdout);
    let latency = seen
        .iter()
        .find(|figure| figure.label == "latency_p95")
        .expect("an event");
    assert_eq!(
        (latency.warning.as_str(), latency.critical.as_str()),
        ("~:-1", "~:-1")
    );
    let said = plugin(&["--admin", &admin, "--warning", "@0:60"]).await;
    expect(&said, 1, &["events take "]);
    let said = plugin(&["--admin", &admin, "--warning", "60:", "--critical", "@0:60"]).await;
    expect(&said, 2, &["events take "]);
}

#[tokio::test]
async fn without_a_database_it_is_critical_and_says_so() {
    let cluster = Cluster::private();
    let (_world, admin) = monitored(&cluster, "away").await;
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let said = eventually(async || {
        let said = plugin(&["--admin", &admin]).await;
        match said.stdout.contains("0 of 3 database sessions up") {
            true => Ok(said),
            false => Err(said),
        }
    })
    .await;
    expect(
        &said,
        2,
        &[
            "not ready: not listening to the database",
            "\njournalctl -u icinga-notifications-web",
        ],
    );
    assert_eq!(
        value(&figures(&said.stdout), "sessions_up"),
        Some(0.0),
        "{said}"
    );
    cluster.start();
    wait_for_readiness(&admin, 200).await;
    expect(&plugin(&["--admin", &admin]).await, 0, &["3 of 3"]);
}

#[tokio::test]
async fn events_without_receipt_are_a_warning() {
    let (world, admin) = monitored(Cluster::shared(), "unread").await;
    let (contact, session_id) = world.signed_in("alice").await;
    let mut stream = world.stream_from(&session_id, "192.0.2.0").await;
    world.incident(contact, "db1!load").await;
    // A client that reads, and opens each stream from another address, which is never a receipt.
    for number in 1..=5 {
        stream.event().await;
        stream = world
            .stream_from(&session_id, &format!("192.0.2.{number}"))
            .await;
    }
    wait_for_metrics(&admin, &[("events_total{outcome=\"unacknowledged\"}", 1.0)]).await;
    let said = plugin(&["--admin", &admin]).await;
    expect(
        &said,
        1,
        &[
            "1 events without receipt in 5 minutes; ",
            "\nthey were written 5 times",
        ],
    );
    let seen = figures(&said.stdout);
    assert_eq!(value(&seen, "events_without_receipt"), Some(1.0), "{said}");
}

#[tokio::test]
async fn too_few_places_are_a_warning() {
    let (database, role) = installed(Cluster::shared(), "places", Shape::V1_0);
    let config = ConfigDir::new(MONITORED, &resource(&database, &role));
    let daemon = Daemon::launch_limited(config, 70);
    daemon.wait_for_log("ready: ");
    let admin = admin_address(&daemon);
    let world = World::of(daemon, database, role, Shape::V1_0).await;
    let said = plugin(&["--admin", &admin]).await;
    expect(&said, 0, &[]);
    let seen = figures(&said.stdout);
    let streams = seen
        .iter()
        .find(|figure| figure.label == "streams")
        .expect("streams");
    let limit: usize = streams.maximum.parse().expect("a limit");
    let mut users = Vec::new();
    for number in 0..limit {
        users.push(world.user(&format!("user{number}")).await);
    }
    let said = plugin(&["--admin", &admin]).await;
    let taken = format!("{limit} of {limit} places for streams are taken");
    expect(&said, 1, &[&taken, "\nraise LimitNOFILE="]);
}

#[tokio::test]
async fn without_a_daemon_it_is_critical() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    for address in [&address, "/nonexistent/admin.sock"] {
        let said = plugin(&["--admin", address]).await;
        expect(
            &said,
            2,
            &[
                address,
                "no connection: ",
                "\ncheck that the daemon runs (systemctl status",
            ],
        );
    }
}

#[tokio::test]
async fn a_daemon_that_hangs_is_critical_after_ten_seconds() {
    let (world, admin) = monitored(Cluster::shared(), "stopped").await;
    world.daemon.signal("STOP");
    let begun = Instant::now();
    let said = plugin(&["--admin", &admin]).await;
    let took = begun.elapsed();
    world.daemon.signal("CONT");
    expect(
        &said,
        2,
        &[
            "no answer within 10 seconds",
            "\nthe daemon or its machine is overloaded",
        ],
    );
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(20),
        "{took:?}"
    );
    expect(&plugin(&["--admin", &admin]).await, 0, &[]);
}

#[tokio::test]
async fn an_address_of_something_else_is_unknown() {
    let (world, _) = monitored(Cluster::shared(), "else").await;
    let said = plugin(&["--admin", &world.daemon.address]).await;
    expect(
        &said,
        3,
        &[
            "not from the daemon: status 404",
            "\ngive the address in [daemon] admin",
        ],
    );

    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(200_000));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\"\n:|1}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        &long,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let answer = answer.to_owned();
        let other = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let _ = socket.read(&mut [0; 1000]);
            let _ = socket.write_all(answer.as_bytes());
        });
        let said = plugin(&["--admin", &address]).await;
        other.join().expect("no panic");
        expect(&said, 3, &["the answer is not from the daemon: "]);
        assert_eq!(said.stdout.lines().count(), 2, "{said}");
        assert!(!said.stdout.contains('|'), "{said}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_critical() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let other = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        let _ = socket.read(&mut [0; 1000]);
    });
    let said = plugin(&["--admin", &address]).await;
    other.join().expect("no panic");
    expect(
        &said,
        2,
        &["the connection failed: ", "\ncheck that the daemon runs"],
    );
}

#[tokio::test]
async fn the_address_comes_from_the_configuration_too_and_may_be_a_unix_socket() {
    let (database, role) = installed(Cluster::shared(), "socket", Shape::V1_0);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let keys = format!("host = 127.0.0.1\nport = 0\nadmin = {}", path.display());
    let mut daemon = Daemon::launch(ConfigDir::new(&keys, &resource(&database, &role)));
    daemon.wait_for_log(&format!("health and metrics on unix:{}", path.display()));
    daemon.wait_for_log("ready: ");
    let said = Said::with(&daemon.config, &["check-health"]);
    expect(&said, 0, &["3 of 3 database sessions up"]);
    expect(
        &plugin(&["--admin", path.to_str().expect("UTF-8")]).await,
        0,
        &[],
    );
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(!path.exists());
    expect(
        &Said::with(&daemon.config, &["check-health"]),
        2,
        &["no connection: "],
    );
}

#[tokio::test]
async fn what_cannot_be_asked_is_unknown() {
    expect(
        &plugin(&[]).await,
        3,
        &["no admin address", "\nset [daemon] admin = 127.0.0.1:9002"],
    );
    let nowhere = Said::with(&ConfigDir::new("admin = 9002", ""), &["check-health"]);
    expect(
        &nowhere,
        3,
        &[
            "cannot read [daemon] admin: ",
            "line 2",
            "\nif this user may not read",
        ],
    );
    for (arguments, part) in [
        (["--admin", "localhost"], "--admin localhost: no address"),
        (["--warning", "1s"], "--warning 1s: no range"),
        (["--critical", "5:1"], "--critical 5:1: no range"),
    ] {
        expect(&plugin(&arguments).await, 3, &[part, "\ngive "]);
    }
    // Icinga shows clap's message, and 2 would be CRITICAL.
    for arguments in [&["--nonsense"][..], &["--admin"], &["extra"]] {
        let said = plugin(arguments).await;
        assert_eq!(said.code, Some(3), "{said}");
        assert!(said.stderr.contains("error: "), "{said}");
    }
    assert_eq!(plugin(&["--help"]).await.code, Some(0));
}
