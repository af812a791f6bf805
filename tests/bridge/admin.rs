//! What an administrator sees of a running daemon: health, metrics, test notifications, and which bridges serve a
//! database. And that nobody else can make use of it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::{Event, Icinga, Shape};
use crate::common::postgres::{Cluster, Database};
use crate::common::sse::{AGENT, Answer, PATIENCE, request};
use crate::common::world::{User, World, installed, resource};
use tokio::time::timeout;

/// A browser of another make: a second one of the same user.
const OTHER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0) Test/2.0";

/// The title that a test notification has.
const TEST_TITLE: &str = "Test notification from icinga-desktop-bridge";

/// `[daemon]` of a daemon that is monitored.
const MONITORED: &str = "host = 127.0.0.1\nport = 0\nadmin = 127.0.0.1:0";

/// A world whose daemon is monitored, and where.
async fn monitored(cluster: &Cluster, hint: &str) -> (World, String) {
    let (database, role) = installed(cluster, hint, Shape::V1_0);
    let daemon = Daemon::launch(ConfigDir::new(MONITORED, &resource(&database, &role)));
    daemon.wait_for_log("ready: ");
    let icinga = Icinga::new(database.connect().await, Shape::V1_0);
    let admin = admin_address(&daemon);
    let world = World {
        daemon,
        icinga,
        database,
        role,
    };
    (world, admin)
}

fn admin_address(daemon: &Daemon) -> String {
    let line = daemon.wait_for_log("health and metrics on http://");
    line.rsplit("http://").next().unwrap().to_owned()
}

/// Asks the admin listener: status, content type, body.
async fn get(admin: &str, path: &str) -> (u16, String, String) {
    let mut answer = send(admin, "GET", path).await;
    let content_type = answer.header("content-type").unwrap().to_owned();
    (answer.status, content_type, answer.rest().await)
}

async fn send(admin: &str, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    Answer::to(admin, request.as_bytes()).await
}

/// The samples of `/metrics`, by name and labels.
async fn metrics(admin: &str) -> BTreeMap<String, f64> {
    let (status, content_type, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(
        content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Waits until the metrics are as `expected`, by the names behind the prefix.
async fn wait_for_metrics(admin: &str, expected: &[(&str, f64)]) {
    let mut seen = BTreeMap::new();
    let waiting = async {
        loop {
            seen = metrics(admin).await;
            let holds =
                |(name, value): &(&str, f64)| seen[&format!("icinga_desktop_{name}")] == *value;
            if expected.iter().all(holds) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(PATIENCE, waiting).await.is_err() {
        panic!("never {expected:?}: {seen:#?}");
    }
}

/// Waits until `/health/ready` answers so, and returns its line.
async fn wait_for_readiness(admin: &str, status: u16) -> String {
    let waiting = async {
        loop {
            let (answered, _, line) = get(admin, "/health/ready").await;
            if answered == status {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("that readiness in time")
}

/// Runs a command of the binary: its exit code, and what it wrote.
fn run(config: &ConfigDir, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = config.command(arguments).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs `send-test`. In a thread of its own: the test's own sessions go on meanwhile.
async fn send_test(world: &World, user: &str) -> (Option<i32>, String) {
    let config = ConfigDir::new("", &resource(&world.database, &world.role));
    let user = user.to_owned();
    tokio::task::spawn_blocking(move || run(&config, &["send-test", &user]))
        .await
        .unwrap()
}

async fn check(world: &World) -> (Option<i32>, String) {
    let config = ConfigDir::new("", &resource(&world.database, &world.role));
    tokio::task::spawn_blocking(move || run(&config, &["check"]))
        .await
        .unwrap()
}

/// Opens a stream on a daemon and reads its first block.
async fn open(daemon: &Daemon, session_id: &str, agent: &str) -> Answer {
    let mut stream = Answer::to(&daemon.address, request(session_id, agent).as_bytes()).await;
    assert_eq!(stream.status, 200);
    stream.block().await.expect("a first block at once");
    stream
}

/// The next event is the test notification.
async fn expect_test(stream: &mut Answer) {
    let event = stream.event().await;
    let data = event.json();
    assert_eq!(data["payload"]["title"], TEST_TITLE, "{event:?}");
    assert_eq!(data["payload"]["severity"], "ok");
    assert_eq!(data["payload"]["incident_id"], 0);
    assert!(
        event.id.is_none(),
        "it would move the client's position: {event:?}"
    );
    assert_eq!(event.event.as_deref(), Some("icinga2.notification"));
}

/// No question is left in the table of positions.
async fn assert_no_question_is_left(database: &Database) {
    let session = database.connect().await;
    let left = "SELECT count(*)::text FROM icinga_desktop.browser_position WHERE floor < 0";
    assert_eq!(session.text(left).await, "0");
}

/// TCP sockets on which a process listens.
fn listening_sockets(pid: u32) -> usize {
    let inodes: BTreeSet<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
            let sockets = text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
            sockets.into_iter().filter_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                // TCP_LISTEN of the kernel's tcp_states.h.
                (fields[3] == "0A").then(|| format!("socket:[{}]", fields[9]))
            })
        })
        .collect();
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| inodes.contains(target.to_str().unwrap_or_default()))
        .count()
}

#[tokio::test]
async fn nobody_is_monitored_unless_asked_for() {
    let plain = World::new("plain").await;
    assert_eq!(listening_sockets(plain.daemon.pid()), 1);
    let (monitored, _) = monitored(Cluster::shared(), "monitored").await;
    assert_eq!(listening_sockets(monitored.daemon.pid()), 2);
    assert!(!plain.daemon.log().contains("health and metrics"));
}

#[tokio::test]
async fn what_the_admin_listener_answers() {
    let (world, admin) = monitored(Cluster::shared(), "answers").await;
    let text = "text/plain; charset=utf-8".to_owned();
    assert_eq!(
        get(&admin, "/health/live").await,
        (200, text.clone(), "alive\n".to_owned())
    );
    assert_eq!(
        get(&admin, "/health/ready").await,
        (200, text, "ready\n".to_owned())
    );
    for path in [
        "/",
        "/health",
        "/health/ready/",
        "/metrics/x",
        "/notifications/v1/subscribe",
    ] {
        let (status, _, body) = get(&admin, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("/metrics"), "{body}");
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let answer = send(&admin, "POST", path).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET")),
            "{path}"
        );
    }
    // And the other way round: browsers' side knows nothing of it.
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_admin_listener_is_there_while_others_hold_its_connections() {
    let (_world, admin) = monitored(Cluster::shared(), "held").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(tokio::net::TcpStream::connect(&admin).await.unwrap());
    }
    // Silent ones are cut after ten seconds, and whoever waits in the kernel's queue is served then.
    assert_eq!(get(&admin, "/health/live").await.0, 200);
}

#[tokio::test]
async fn readiness_follows_the_database() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "readiness").await;
    let sessions = ["listener", "query", "sign-in"];
    let up = sessions.map(|session| format!("database_up{{session=\"{session}\"}}"));
    let all = |value| up.each_ref().map(|name| (name.as_str(), value));
    wait_for_metrics(&admin, &all(1.0)).await;
    cluster.stop();
    let reason = wait_for_readiness(&admin, 503).await;
    assert_eq!(reason.lines().count(), 1, "{reason}");
    assert!(reason.contains("database"), "{reason}");
    wait_for_metrics(&admin, &all(0.0)).await;
    assert_eq!(get(&admin, "/health/live").await.0, 200);
    let before = metrics(&admin).await;
    for session in sessions {
        let name = format!("icinga_desktop_database_reconnects_total{{session=\"{session}\"}}");
        assert_eq!(before[&name], 1.0, "{session}");
    }
    cluster.start();
    assert_eq!(wait_for_readiness(&admin, 200).await, "ready\n");
    wait_for_metrics(&admin, &all(1.0)).await;
    let after = metrics(&admin).await;
    assert!(after["icinga_desktop_gaps_total"] > before["icinga_desktop_gaps_total"]);
    assert!(!world.daemon.log().contains("panicked"));
}

#[tokio::test]
async fn without_a_database_the_daemon_is_alive_and_not_ready() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "unready", Shape::V1_0);
    cluster.stop();
    let daemon = Daemon::launch(ConfigDir::new(MONITORED, &resource(&database, &role)));
    let admin = admin_address(&daemon);
    assert_eq!(get(&admin, "/health/live").await.0, 200);
    let (status, _, reason) = get(&admin, "/health/ready").await;
    assert_eq!(status, 503);
    assert!(
        reason.starts_with("not listening to the database"),
        "{reason}"
    );
    cluster.start();
    wait_for_readiness(&admin, 200).await;
}

#[test]
fn an_address_that_others_reach_is_warned_about_and_one_that_is_taken_is_named() {
    let (database, role) = installed(Cluster::shared(), "taken", Shape::V1_0);
    let resource = resource(&database, &role);
    // Of the range for documentation, which no machine has: so nothing is opened to anybody here.
    let config = ConfigDir::new(
        "host = 127.0.0.1\nport = 0\nadmin = 192.0.2.1:9002",
        &resource,
    );
    for (arguments, code) in [(["check", "--config-only"], 0), (["run", "--verbose"], 1)] {
        let (exit, text) = run(&config, &arguments);
        assert_eq!(exit, Some(code), "{text}");
        for part in [
            "WARN",
            "[daemon] admin",
            "192.0.2.1:9002 can be reached from other machines",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        if code == 0 {
            assert!(text.contains("daemon.admin = 192.0.2.1:9002\n"), "{text}");
        } else {
            assert!(text.contains("cannot listen on 192.0.2.1:9002: "), "{text}");
        }
    }
    let (exit, text) = run(&config, &["check"]);
    assert!(
        exit == Some(0) && text.contains("can be reached from other machines"),
        "{text}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = ConfigDir::new(
        &format!("host = 127.0.0.1\nport = 0\nadmin = {address}"),
        &resource,
    );
    let (exit, text) = run(&config, &["run"]);
    assert_eq!(exit, Some(1), "{text}");
    let expected = format!("cannot listen on {address}: Address already in use");
    for part in [
        expected.as_str(),
        "check [daemon] admin",
        "who else listens there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let config = ConfigDir::new("admin = 9002", &resource);
    for arguments in [&["run"][..], &["check"], &["send-test", "alice"]] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(78), "{text}");
        assert!(
            text.contains("config.ini, line 2, [daemon] admin: give an IP address and a port"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn metrics_move_with_what_happens() {
    let (world, admin) = monitored(Cluster::shared(), "moving").await;
    let version = env!("CARGO_PKG_VERSION");
    wait_for_metrics(
        &admin,
        &[
            (&format!("build_info{{version=\"{version}\"}}"), 1.0),
            ("streams", 0.0),
            ("users", 0.0),
            ("events_total{outcome=\"published\"}", 0.0),
            ("event_latency_seconds_count", 0.0),
        ],
    )
    .await;
    let mut alice = world.user("alice").await;
    let second = world.subscribe(&alice.session_id).await;
    let mut bob = world.user("bob").await;
    let contacts = [
        (alice.contact, 1, "pending"),
        (alice.contact, 2, "pending"),
        (bob.contact, 1, "pending"),
    ];
    world
        .icinga
        .event(Event {
            object: "db1!disk",
            severity: Some("crit"),
            notified: &contacts,
            ..Event::default()
        })
        .await;
    alice.stream.event().await;
    bob.stream.event().await;
    // One event for each contact, on one stream of each browser, and delivered a quarter of a second later.
    wait_for_metrics(
        &admin,
        &[
            ("streams", 3.0),
            ("users", 2.0),
            ("events_total{outcome=\"published\"}", 2.0),
            ("events_total{outcome=\"written\"}", 2.0),
            ("events_total{outcome=\"delivered\"}", 2.0),
            ("events_total{outcome=\"returned\"}", 0.0),
            ("event_latency_seconds_count", 2.0),
        ],
    )
    .await;
    let seen = metrics(&admin).await;
    let sum = seen["icinga_desktop_event_latency_seconds_sum"];
    assert!(sum > 0.0 && sum < PATIENCE.as_secs_f64(), "{sum}");
    assert_eq!(
        seen["icinga_desktop_event_latency_seconds_bucket{le=\"+Inf\"}"],
        2.0
    );
    assert!(seen["icinga_desktop_streams_limit"] >= 3.0);
    assert!(seen["icinga_desktop_notifications_total"] >= 3.0);

    // Another browser leaves with the event unconfirmed; the other stream gets it.
    drop(second);
    wait_for_metrics(&admin, &[("streams", 2.0)]).await;
    let spare = world.subscribe(&alice.session_id).await;
    world
        .icinga
        .event(Event {
            object: "db1!load",
            severity: Some("warning"),
            notified: &[(alice.contact, 1, "pending")],
            ..Event::default()
        })
        .await;
    alice.stream.event().await;
    drop(alice.stream);
    let mut spare = spare;
    spare.event().await;
    wait_for_metrics(
        &admin,
        &[
            ("events_total{outcome=\"written\"}", 4.0),
            ("events_total{outcome=\"returned\"}", 1.0),
            ("events_total{outcome=\"delivered\"}", 3.0),
            // What comes again is not measured again.
            ("event_latency_seconds_count", 3.0),
        ],
    )
    .await;

    // Refused, each for its reason.
    let unknown = "x".repeat(26);
    for (cookie, agent) in [
        ("Icingaweb2=short".to_owned(), AGENT),
        (format!("Icingaweb2={unknown}"), AGENT),
        (format!("Icingaweb2={}", bob.session_id), OTHER_AGENT),
        ("theme=dark".to_owned(), AGENT),
    ] {
        let request = format!(
            "GET /notifications/v1/subscribe HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nCookie: {cookie}\r\n\r\n"
        );
        let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
        assert_eq!(answer.status, 204);
    }
    let _bobs_second = world.subscribe(&bob.session_id).await;
    let third = Answer::subscribe(&world.daemon.address, &bob.session_id).await;
    assert_eq!(third.status, 204);
    let stranger = world.icinga.sign_in("stranger", AGENT).await;
    let answer = Answer::subscribe(&world.daemon.address, &stranger).await;
    assert_eq!(answer.status, 204);
    world
        .icinga
        .by_hand("NOTIFY icinga_desktop_incident, 'nonsense'")
        .await;
    world.icinga.sign_out(&bob.session_id).await;
    wait_for_metrics(
        &admin,
        &[
            ("refused_total{reason=\"malformed\"}", 1.0),
            ("refused_total{reason=\"unknown_session\"}", 1.0),
            ("refused_total{reason=\"user_agent\"}", 1.0),
            ("refused_total{reason=\"no_cookie\"}", 1.0),
            ("refused_total{reason=\"third_stream\"}", 1.0),
            ("refused_total{reason=\"no_contact\"}", 1.0),
            ("notifications_malformed_total", 1.0),
            ("revoked_total", 1.0),
            ("users", 1.0),
            ("streams", 1.0),
        ],
    )
    .await;

    // A session with a query that was ended is connected anew.
    let terminate = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'icinga-desktop-bridge query'";
    assert_eq!(world.database.connect().await.text(terminate).await, "1");
    wait_for_metrics(
        &admin,
        &[
            ("database_reconnects_total{session=\"query\"}", 1.0),
            ("database_reconnects_total{session=\"listener\"}", 0.0),
            ("database_up{session=\"query\"}", 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn browsers_that_are_told_to_come_back_are_counted() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "postponed").await;
    let alice = world.user("alice").await;
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let answer = Answer::subscribe(&world.daemon.address, &alice.session_id).await;
    assert_eq!(answer.status, 200);
    wait_for_metrics(&admin, &[("postponed_total{reason=\"database\"}", 1.0)]).await;
}

/// The metrics that a text about monitoring names: everything that begins with the prefix, but for channels.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("icinga_desktop_") && *word != "icinga_desktop_ask")
        .map(str::to_owned)
        .collect()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test]
async fn the_manual_lists_exactly_the_metrics_that_there_are() {
    let (_world, admin) = monitored(Cluster::shared(), "manual").await;
    let (_, _, text) = get(&admin, "/metrics").await;
    let mut exposed: BTreeMap<String, &str> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // As they are queried.
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        exposed.insert(format!("{name}{suffix}"), kind);
    }
    let manual = file("doc/monitoring.md");
    let documented: BTreeMap<String, &str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `icinga_desktop_"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`');
            (format!("icinga_desktop_{name}"), cells.next().unwrap())
        })
        .collect();
    assert_eq!(documented, exposed);

    // Wherever else one is named, in queries and examples, it exists.
    let histogram = "icinga_desktop_event_latency_seconds";
    for path in ["doc/monitoring.md", "packaging/icinga/desktop-bridge.conf"] {
        for name in named(&file(path)) {
            let base = name
                .trim_end_matches("_bucket")
                .trim_end_matches("_count")
                .trim_end_matches("_sum");
            assert!(
                exposed.contains_key(&name) || base == histogram,
                "{path}: {name}"
            );
        }
    }
    // And each value of each label is explained.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else {
            continue;
        };
        let mut parts = labels.split('"');
        let (label, value) = (parts.next().unwrap(), parts.next().unwrap());
        if label != "version=" && label != "le=" {
            assert!(manual.contains(&format!("`{value}`")), "{line}");
        }
    }
}

#[tokio::test]
async fn a_test_notification_reaches_one_stream_of_each_open_browser() {
    let world = World::new("sent").await;
    let contact = world.icinga.contact("alice").await;
    let mut bob = world.user("bob").await;

    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("0 of 0 open browsers got it"), "{text}");
    assert!(
        text.contains("FAIL  \"alice\" has no open browser"),
        "{text}"
    );

    let mut alice = world.sign_in(contact, "alice").await;
    let (exit, text) = send_test(&world, "ALICE").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains(": 1 of 1 open browsers got it"), "{text}");
    assert!(
        text.contains("1 stream got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;

    // Two streams of one browser, and another browser.
    let mut second = world.subscribe(&alice.session_id).await;
    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = open(&world.daemon, &other_session, OTHER_AGENT).await;
    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains(": 2 of 2 open browsers got it"), "{text}");
    assert!(
        text.contains("2 streams got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;
    expect_test(&mut other).await;

    // The second stream and bob got none of it: their next event is a real one.
    drop(alice.stream);
    let fence = [(alice.contact, 1, "pending"), (bob.contact, 1, "pending")];
    let written = world
        .icinga
        .event(Event {
            object: "fence",
            severity: Some("crit"),
            notified: &fence,
            ..Event::default()
        })
        .await;
    for stream in [&mut second, &mut bob.stream, &mut other] {
        assert_eq!(stream.event().await.incident(), written.incident);
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_test_notification_that_cannot_be_delivered_is_forgotten() {
    let world = World::new("forgotten").await;
    let alice = world.user("alice").await;
    // A browser that leaves as soon as it has got it, before it counts as delivered.
    let mut stream = alice.stream;
    let (contact, database) = (alice.contact, &world.database);
    let token = "7".repeat(64);
    ask_by_hand(database, &token, contact).await;
    expect_test(&mut stream).await;
    drop(stream);
    let answer = wait_for_answer(database, &token).await;
    assert_eq!(
        answer[1..],
        [1, 0, 0],
        "one browser, and not delivered: {answer:?}"
    );
    remove_question(database, &token).await;

    // Not told of it when it comes back.
    let mut again = User {
        stream: world.subscribe(&alice.session_id).await,
        contact,
        session_id: alice.session_id,
    };
    world.nothing_else(&mut [&mut again]).await;
}

/// Stores a question as the command does, for a token of hexadecimal digits, and notifies of it.
async fn ask_by_hand(database: &Database, token: &str, contact: i64) {
    let session = database.connect().await;
    session
        .run(&format!(
            "INSERT INTO icinga_desktop.browser_position VALUES ('\\x{token}', -1, '{{{contact}}}', now()); \
             NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'"
        ))
        .await;
}

/// The first answer to a question.
async fn wait_for_answer(database: &Database, token: &str) -> Vec<i64> {
    let session = database.connect().await;
    let query =
        format!("SELECT above FROM icinga_desktop.browser_position WHERE browser = '\\x{token}'");
    let waiting = async {
        loop {
            let above: Vec<i64> = session.query_one(&query, &[]).await.unwrap().get(0);
            if above.len() > 1 {
                return above[1..].to_vec();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("an answer in time")
}

async fn remove_question(database: &Database, token: &str) {
    let session = database.connect().await;
    session
        .run(&format!(
            "DELETE FROM icinga_desktop.browser_position WHERE browser = '\\x{token}'"
        ))
        .await;
}

#[tokio::test]
async fn a_test_for_nobody_says_what_to_do() {
    let world = World::new("nobody").await;
    let gone = world.icinga.contact("gone").await;
    world.icinga.delete_contact(gone).await;
    for user in [
        "nobody",
        "gone",
        "",
        "alice'; DROP TABLE contact; --",
        "a\nb",
    ] {
        let (exit, text) = send_test(&world, user).await;
        assert_eq!(exit, Some(1), "{text}");
        let expected = format!(
            "FAIL  no contact of Icinga Notifications has the user name \"{}\"",
            user.escape_debug()
        );
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_no_question_is_left(&world.database).await;

    let World {
        daemon,
        icinga,
        database,
        role,
    } = world;
    icinga.contact("alice").await;
    drop(daemon);
    let config = ConfigDir::new("", &resource(&database, &role));
    let waiting = async {
        loop {
            // Until PostgreSQL has noticed that the daemon is gone.
            let (exit, text) = run(&config, &["send-test", "alice"]);
            assert_eq!(exit, Some(1), "{text}");
            if text.contains(
                "FAIL  no bridge listens on this database: is icinga-desktop-bridge running",
            ) {
                return;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("no bridge");
    let (exit, text) = run(&config, &["check"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("ok    bridges: none is running on this database"),
        "{text}"
    );

    database
        .psql()
        .command(&format!(
            "REVOKE INSERT ON icinga_desktop.browser_position FROM \"{role}\""
        ))
        .success();
    for arguments in [&["send-test", "alice"][..], &["check"]] {
        let (exit, text) = run(&config, arguments);
        assert_eq!(exit, Some(1), "{text}");
        assert!(
            text.contains("no right to write icinga_desktop.browser_position")
                && text.contains("sql/grants.sql"),
            "{text}"
        );
    }
    let (exit, _) = run(&config, &["send-test"]);
    assert_eq!(exit, Some(2));
}

#[tokio::test]
async fn several_bridges_are_asked_and_a_browser_on_two_of_them_is_found() {
    let world = World::new("several").await;
    let mut alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    let bob = world.icinga.contact("bob").await;
    let bob_session = world.icinga.sign_in("bob", AGENT).await;
    let _bob = open(&second, &bob_session, AGENT).await;
    let other_session = world.icinga.sign_in("alice", OTHER_AGENT).await;
    let mut other = open(&second, &other_session, OTHER_AGENT).await;

    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(
        text.matches(": 1 of 1 open browsers got it").count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("2 streams got the test notification"),
        "{text}"
    );
    expect_test(&mut alice.stream).await;
    expect_test(&mut other).await;

    let (exit, text) = send_test(&world, "bob").await;
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(
        text.matches(": 0 of 0 open browsers got it").count(),
        1,
        "{text}"
    );
    assert!(
        text.contains("1 stream got the test notification"),
        "{text}"
    );
    assert!(bob > 0);

    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(0), "{text}");
    let expected =
        "ok    bridges: 2 bridges serve this database, with 3 browsers, each on one of them";
    assert!(text.contains(expected), "{text}");

    // How many bridges there are is seen by every role, so they need not run as the same.
    let other_role = world.database.role("other");
    let session = world.database.connect_as(&other_role).await;
    let listening = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'icinga-desktop-bridge listener'";
    assert_eq!(session.text(listening).await, "2");

    let _astray = open(&second, &alice.session_id, AGENT).await;
    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(1), "{text}");
    for part in [
        "FAIL  bridges: 2 bridges serve this database, and 1 browsers have streams on more than one",
        "hash $cookie_Icingaweb2 consistent",
        "packaging/",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn a_bridge_that_hangs_is_missed() {
    let world = World::new("hanging").await;
    let _alice = world.user("alice").await;
    let second = Daemon::start(&resource(&world.database, &world.role));
    second.signal("STOP");
    let (exit, text) = send_test(&world, "alice").await;
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("1 of 2 bridges did not answer within 10s; their logs say why"),
        "{text}"
    );
    let (exit, text) = check(&world).await;
    assert_eq!(exit, Some(1), "{text}");
    assert!(
        text.contains("FAIL  bridges: 1 of 2 bridges that listen on this database answered"),
        "{text}"
    );
    second.signal("CONT");
    assert_no_question_is_left(&world.database).await;
}

#[tokio::test]
async fn only_who_may_write_what_bridges_write_can_pop_up_a_test() {
    let world = World::new("hostile").await;
    let mut alice = world.user("alice").await;
    let stranger = world.database.role("stranger");
    let session = world.database.connect_as(&stranger).await;

    // What is asked over the channel alone is ignored, however it looks and however often.
    for payload in [
        "",
        "nonsense",
        "{}",
        r#"{"token":7}"#,
        r#"{"token":"7"}"#,
        &format!(r#"{{"token":"{}"}}"#, "g".repeat(64)),
        &format!(r#"{{"contact_id":{}}}"#, alice.contact),
        &format!(r#"{{"token":"{}"}}"#, "7".repeat(7000)),
    ] {
        session
            .run(&format!("NOTIFY icinga_desktop_ask, '{payload}'"))
            .await;
    }
    session
        .run(&format!(
            "SELECT pg_notify('icinga_desktop_ask', \
               format('{{\"token\":\"%s\",\"contact_id\":{}}}', encode(sha256(i::text::bytea), 'hex'))) \
             FROM generate_series(1, 5000) AS i",
            alice.contact
        ))
        .await;
    world
        .daemon
        .wait_for_log("a notification on channel icinga_desktop_ask from backend ");
    world.daemon.wait_for_log("there is no question behind it");
    let refusal = session
        .refusal("INSERT INTO icinga_desktop.browser_position VALUES ('\\x00', -1, '{1}', now())")
        .await;
    assert!(refusal.contains("permission denied"), "{refusal}");
    world.nothing_else(&mut [&mut alice]).await;

    // Nor can somebody who knows their own session make the bridge take its position for a question.
    // With one id, it looks most like one.
    let mut bob = world.user("bob").await;
    let fence = world.nothing_else(&mut [&mut bob]).await;
    world.delivered(fence.history[0]).await;
    let session = world.database.connect().await;
    session
        .run(&format!(
            "SELECT pg_notify('icinga_desktop_ask', \
               format('{{\"token\":\"%s\"}}', encode(sha256('{}'), 'hex')))",
            bob.session_id
        ))
        .await;

    // A question that somebody overheard and repeats is still answered once.
    let token = "5".repeat(64);
    ask_by_hand(&world.database, &token, alice.contact).await;
    expect_test(&mut alice.stream).await;
    let answer = wait_for_answer(&world.database, &token).await;
    assert_eq!(answer[1..], [1, 1, 0], "{answer:?}");
    // One by one, so the other is dealt with, too: its row still holds nothing but ids of history rows.
    let untouched = format!(
        "SELECT (floor >= 0 AND NOT EXISTS (SELECT FROM unnest(above) AS id \
           WHERE id NOT IN (SELECT id FROM incident_history)))::text \
         FROM icinga_desktop.browser_position WHERE browser = sha256('{}')",
        bob.session_id
    );
    assert_eq!(session.text(&untouched).await, "true");
    for _ in 0..3 {
        session
            .run(&format!(
                "NOTIFY icinga_desktop_ask, '{{\"token\":\"{token}\"}}'"
            ))
            .await;
    }
    world.nothing_else(&mut [&mut alice]).await;

    // What comes behind all that is answered, so all of it was dealt with; and nothing was shown meanwhile.
    let next = "6".repeat(64);
    ask_by_hand(&world.database, &next, alice.contact).await;
    expect_test(&mut alice.stream).await;
    assert_eq!(
        wait_for_answer(&world.database, &next).await[1..],
        [1, 1, 0]
    );
    assert_eq!(wait_for_answer(&world.database, &token).await, answer);
    remove_question(&world.database, &token).await;
    remove_question(&world.database, &next).await;
    world.nothing_else(&mut [&mut alice]).await;

    let log = world.daemon.log();
    assert!(
        log.lines()
            .filter(|line| line.contains("icinga_desktop_ask"))
            .count()
            < 10,
        "{log}"
    );
    for secret in [&alice.session_id, &token, "7777777"] {
        assert!(!log.contains(secret), "{secret} is logged: {log}");
    }
}

#[tokio::test]
async fn what_is_heard_of_a_question_is_a_random_number() {
    let world = World::new("overheard").await;
    let _alice = world.user("alice").await;
    let mut eavesdropper = world.database.listen(&["icinga_desktop_ask"]).await;
    assert_eq!(send_test(&world, "alice").await.0, Some(0));
    assert_eq!(check(&world).await.0, Some(0));
    let heard = eavesdropper.heard().await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    for (_, payload) in &heard {
        let json: serde_json::Value = serde_json::from_str(payload).unwrap();
        let object = json.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["token"], "{payload}");
        assert_eq!(object["token"].as_str().unwrap().len(), 64, "{payload}");
    }
    assert_ne!(heard[0].1, heard[1].1);
}

/// A program of the packages that `tests/run.sh` installs.
fn installed_program(path: &str, package: &str) -> Command {
    assert!(Path::new(path).exists(), "no {path}: install {package}");
    Command::new(path)
}

/// Who runs this, or their group.
fn id(what: &str) -> String {
    let output = Command::new("id").arg(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn icinga_itself_takes_the_example_and_its_plugin_sees_the_daemon() {
    let cluster = Cluster::private();
    let (_world, admin) = monitored(&cluster, "plugin").await;
    let port = admin.rsplit(':').next().unwrap();

    // The shipped file, with the host that it is for and Icinga's own definitions.
    let dir = tempfile::tempdir().unwrap();
    let configuration = dir.path().join("icinga2.conf");
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/icinga/desktop-bridge.conf");
    let host = format!(
        "include <itl>\ninclude <plugins>\nconst PluginDir = \"/usr/lib/nagios/plugins\"\nconst NodeName = \"test\"\n\
         object Host \"bridge1\" {{\n  check_command = \"dummy\"\n  vars.desktop_bridge = true\n  vars.desktop_bridge_port = {port}\n}}\n\
         include \"{}\"\n",
        example.display()
    );
    std::fs::write(&configuration, host).unwrap();
    let mut icinga = installed_program("/usr/sbin/icinga2", "icinga2-bin");
    // As whoever runs this, with everything that it writes in that directory.
    icinga
        .env("ICINGA2_USER", id("-un"))
        .env("ICINGA2_GROUP", id("-gn"))
        .args(["daemon", "--validate", "--config"])
        .arg(&configuration);
    for setting in ["DataDir", "CacheDir", "InitRunDir", "LogDir"] {
        icinga.args(["-D", &format!("{setting}={}", dir.path().display())]);
    }
    let output = icinga.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Instantiated 1 Service."), "{text}");

    // What the example makes Icinga run.
    let (path, expected) = ("/health/ready", "200 OK");
    let shipped = file("packaging/icinga/desktop-bridge.conf");
    for part in [
        format!("\"-u\" = \"{path}\""),
        format!("value = \"{expected}\""),
    ] {
        assert!(shipped.contains(&part), "{part}");
    }
    let check = || {
        let output = installed_program(
            "/usr/lib/nagios/plugins/check_http",
            "monitoring-plugins-basic",
        )
        .args([
            "-I",
            "127.0.0.1",
            "-p",
            port,
            "-u",
            "/health/ready",
            "-e",
            "200 OK",
            "-t",
            "10",
        ])
        .output()
        .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (exit, text) = check();
    assert_eq!(exit, Some(0), "{text}");
    cluster.stop();
    wait_for_readiness(&admin, 503).await;
    let (exit, text) = check();
    assert_eq!(exit, Some(2), "{text}");
}
