//! The status page when it is loaded, and then every second.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::common::admin::{MONITORED, get, metrics, monitored, send, wait_for_metrics};
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::sse::{Answer, Block};
use crate::common::wait::{TIMEOUT, eventually};
use crate::common::world::{installed, resource};

/// Opens the page's stream.
async fn live(admin: &str) -> Answer {
    let request = format!("GET /live HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let answer = Answer::to(admin, request.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/event-stream; charset=utf-8"))
    );
    answer
}

/// The HTML in a block.
fn html(block: &Block) -> String {
    let lines = block
        .raw
        .lines()
        .filter_map(|line| line.strip_prefix("data:"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Reads states until one contains all of that.
async fn until(stream: &mut Answer, parts: &[&str]) -> String {
    let mut last = String::new();
    let reading = async {
        loop {
            last = html(&stream.block().await.expect("the next state"));
            if parts.iter().all(|part| last.contains(part)) {
                break;
            }
        }
    };
    let read = tokio::time::timeout(TIMEOUT, reading).await;
    assert!(read.is_ok(), "no {parts:?} in {last}");
    last
}

#[tokio::test]
async fn the_page_says_what_is_known_and_names_nobody() {
    let (world, admin) = monitored(Cluster::shared(), "page").await;
    // Ids that do not occur otherwise.
    for table in ["incident", "contact"] {
        let ids = format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), 987653)");
        world.icinga.by_hand(&ids).await;
    }
    let mut alice = world.user("alice").await;
    let written = world.incident(alice.contact, "db1!disk").await;
    assert_eq!((alice.contact, written.incident), (987_654, 987_654));
    alice.tab.event().await;
    let delivered = "events_total{outcome=\"delivered\"}";
    wait_for_metrics(&admin, &[(delivered, 1.0), ("streams", 1.0)]).await;
    let (status, content_type, page) = get(&admin, "/").await;
    assert_eq!(
        (status, content_type.as_str()),
        (200, "text/html; charset=utf-8")
    );
    for part in [
        "<h2>Everything works</h2>",
        "<p class=\"figure ok\">1</p>",
        "listener up, query up, sign-in up",
        "<td>delivered</td><td class=\"value\">1</td>",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for sample in metrics(&admin).await.keys() {
        let family = sample.split('{').next().unwrap();
        let family = ["_total", "_bucket", "_sum", "_count", "_info"]
            .iter()
            .fold(family, |name, suffix| name.trim_end_matches(suffix));
        assert!(
            page.contains(&format!("<code>{family}</code>")),
            "{family}: {page}"
        );
    }
    let state = until(&mut live(&admin).await, &["<h2>Everything works</h2>"]).await;
    assert!(state.starts_with("<main "), "{state}");
    for text in [page, state] {
        for secret in ["alice", "db1", "disk", "987654", &alice.session_id] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[tokio::test]
async fn the_page_follows_what_happens() {
    let cluster = Cluster::private();
    let (world, admin) = monitored(&cluster, "live").await;
    let mut page = live(&admin).await;
    until(&mut page, &["<h2>Everything works</h2>", ">0</p>\n<meter"]).await;
    let alice = world.user("alice").await;
    until(&mut page, &[">1</p>\n<meter"]).await;
    // Found within 5 seconds of the first row that no bell announced.
    let disable = "ALTER TABLE incident_history DISABLE TRIGGER icinga_desktop_bell;
                   ALTER TABLE incident DISABLE TRIGGER icinga_desktop_incident";
    world.icinga.by_hand(disable).await;
    world.incident(alice.contact, "db1!disk").await;
    let not_ready = "class=\"critical\">\n<h2>Something is wrong</h2>\n<dl>\n<dt>not ready: ";
    until(&mut page, &[not_ready, "2 missing", "icinga_desktop_bell"]).await;
    cluster.stop();
    until(
        &mut page,
        &[not_ready, "listener down, query down, sign-in down"],
    )
    .await;
    // The same as the answer for people without scripts.
    let (_, _, loaded) = get(&admin, "/").await;
    assert!(loaded.contains(not_ready), "{loaded}");
}

#[tokio::test]
async fn pages_that_are_too_many_take_turns_and_leave_room_for_monitoring() {
    let (_world, admin) = monitored(Cluster::shared(), "pages").await;
    let mut pages = Vec::new();
    for _ in 0..8 {
        let mut page = live(&admin).await;
        assert_eq!(page.block().await.expect("a state").retry, Some(1000));
        pages.push(page);
    }
    for _ in 0..30 {
        let mut page = live(&admin).await;
        let block = page.block().await.expect("a state");
        assert_eq!(block.retry, Some(5000));
        assert!(html(&block).contains("</main>"), "{block:?}");
        assert!(page.block().await.is_none());
        pages.push(page);
    }
    assert_eq!(get(&admin, "/health/ready").await.0, 200);
    // A page that is closed frees a place.
    drop(pages);
    eventually(async || match live(&admin).await.block().await {
        Some(block) if block.retry == Some(1000) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_stop_ends_open_pages() {
    let (mut world, admin) = monitored(Cluster::shared(), "stop").await;
    let mut page = live(&admin).await;
    until(&mut page, &["<h2>Everything works</h2>"]).await;
    world.daemon.signal("TERM");
    while page.block().await.is_some() {}
    assert!(world.daemon.wait().success());
}

#[tokio::test]
async fn the_page_is_there_on_a_unix_socket() {
    let (database, role) = installed(Cluster::shared(), "page_socket", Shape::V1_0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let keys = MONITORED.replace(
        "admin = 127.0.0.1:0",
        &format!("admin = {}", path.display()),
    );
    let daemon = Daemon::launch(ConfigDir::new(&keys, &resource(&database, &role)));
    daemon.wait_for_log("ready: ");
    for (request, end) in [
        ("/", "</html>\n"),
        ("/live", "\nretry:1000\n\n"),
        ("/live", "\nretry:1000\n\n"),
    ] {
        let mut socket = UnixStream::connect(&path).await.unwrap();
        let request = format!("GET {request} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let reading = async {
            while !text.contains(end) {
                let mut bytes = [0; 4096];
                let read = socket.read(&mut bytes).await.unwrap();
                assert!(read > 0, "{text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        };
        tokio::time::timeout(TIMEOUT, reading).await.unwrap();
        assert!(text.contains("<h2>Everything works</h2>"), "{text}");
    }
}

#[tokio::test]
async fn the_page_takes_nothing_from_elsewhere_and_is_no_part_of_another() {
    let (_world, admin) = monitored(Cluster::shared(), "policy").await;
    let types = [
        ("/", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
    ];
    for (path, content_type) in types {
        let answer = send(&admin, "GET", path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("content-type", content_type),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
}
