//! The HTTP side as proxies and browsers see it: statuses, heads, limits, and how streams begin, live and end.

use crate::common::command::Said;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, request};
use crate::common::wait::TIMEOUT;
use crate::common::world::{World, installed, resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A request for `path` with these additional headers.
fn get(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn other_paths_methods_and_versions_are_refused_each_in_its_way() {
    let world = World::new("statuses").await;
    let address = &world.daemon.address;
    let subscribe = "/icingaweb2/notifications/v1/subscribe";
    for (method, path, headers, status) in [
        ("GET", "/", "", 404),
        ("GET", "/icingaweb2/notifications/v1/subscribe/x", "", 404),
        ("GET", "/icingaweb2/notifications/v1/unsubscribe", "", 404),
        ("POST", "/elsewhere", "", 404),
        ("POST", subscribe, "Content-Length: 0\r\n", 405),
        ("HEAD", subscribe, "", 405),
        ("OPTIONS", subscribe, "", 405),
        ("GET", "/icingaweb2/notifications/v2/subscribe", "", 400),
        (
            "GET",
            subscribe,
            "X-Icinga-Notifications-Protocol-Version: 2\r\n",
            400,
        ),
        (
            "GET",
            subscribe,
            "X-Icinga-Notifications-Protocol-Version: \r\n",
            400,
        ),
        // Passed on to the sign-in, which fails.
        (
            "GET",
            subscribe,
            "X-Icinga-Notifications-Protocol-Version: 1\r\n",
            204,
        ),
        ("GET", "/notifications/v1/subscribe?lastEventId=1", "", 204),
        ("GET", "/a/b/notifications/v1/subscribe", "", 204),
    ] {
        let answer = Answer::to(address, &get(method, path, headers)).await;
        assert_eq!(answer.status, status, "{method} {path} {headers}");
        let allow = (status == 405).then_some("GET");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn a_stream_begins_at_once_and_is_close_delimited() {
    let world = World::new("head").await;
    let contact = world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let mut answer = Answer::subscribe(&world.daemon.address, &session_id).await;
    assert_eq!(answer.status, 200, "contact {contact}");
    for (name, value) in [
        ("content-type", Some("text/event-stream; charset=utf-8")),
        ("cache-control", Some("no-cache")),
        ("x-accel-buffering", Some("no")),
        ("connection", Some("close")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let first = answer.block().await.unwrap();
    assert_eq!(first.raw, ":\nretry: 3000\n\n");
    let mark = answer.block().await.unwrap();
    assert!(mark.is_mark() && mark.id.is_some(), "{mark:?}");
}

#[tokio::test]
async fn silence_is_broken_by_a_comment() {
    let world = World::new("keep_alive").await;
    let mut alice = world.user("alice").await;
    while alice.tab.block().await.raw != ":\n\n" {}
}

#[tokio::test]
async fn user_agents_of_several_kilobytes_and_none_at_all_sign_in() {
    let world = World::new("agents").await;
    world.icinga.contact("alice").await;
    let long = "x".repeat(7000);
    for (stored, sent) in [
        (long.as_str(), long.as_str()),
        ("trimmed", "  trimmed  "),
        ("", ""),
    ] {
        let session_id = world.icinga.sign_in("alice", stored).await;
        let answer = Answer::to(&world.daemon.address, request(&session_id, sent).as_bytes()).await;
        assert_eq!(answer.status, 200, "{} bytes", stored.len());
    }
    let session_id = world.icinga.sign_in("alice", "").await;
    let request = request(&session_id, "").replace("User-Agent: \r\n", "");
    let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn heads_beyond_the_limit_are_431_and_unfinished_ones_are_cut() {
    let world = World::new("limits").await;
    let address = &world.daemon.address;
    let many = (0..200)
        .map(|n| format!("X-{n}: y\r\n"))
        .collect::<String>();
    let answer = Answer::to(address, &get("GET", "/", &many)).await;
    assert_eq!(answer.status, 431);
    let large = format!("X-Large: {}\r\n", "y".repeat(70_000));
    let answer = Answer::to(address, &get("GET", "/", &large)).await;
    assert_eq!(answer.status, 431);

    // A client that sends nothing is cut, and so is one that never ends its head.
    for begun in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(TIMEOUT, socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {begun:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_no_stream_can_be_used_again() {
    let world = World::new("keepalive").await;
    let alice = world.user("alice").await;
    let mut socket = TcpStream::connect(&world.daemon.address).await.unwrap();
    let stream = request(&alice.session_id, AGENT);
    // As nginx's upstream keep-alive may do, here even without waiting for the first answer.
    let both = [&get("GET", "/nothing", "")[..], stream.as_bytes()].concat();
    socket.write_all(&both).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("retry: 3000\n\n") {
        let mut buffer = [0; 1024];
        let count = timeout(TIMEOUT, socket.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(count, 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(seen.starts_with("HTTP/1.1 404 "), "{seen}");
    assert!(seen.contains("HTTP/1.1 200 OK\r\n"), "{seen}");
}

#[tokio::test]
async fn a_request_of_http_1_0_is_served() {
    let world = World::new("http_1_0").await;
    let alice = world.user("alice").await;
    let request = request(&alice.session_id, AGENT).replace("HTTP/1.1", "HTTP/1.0");
    let answer = Answer::to(&world.daemon.address, request.as_bytes()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn sigterm_ends_streams_cleanly_and_the_daemon_with_0() {
    let mut world = World::new("sigterm").await;
    world.icinga.contact("alice").await;
    let session_id = world.icinga.sign_in("alice", AGENT).await;
    let mut stream = world.stream(&session_id).await;
    world.daemon.signal("TERM");
    let final_block = stream.block().await.expect("a farewell");
    assert!(final_block.retry.is_some(), "{final_block:?}");
    assert!(stream.block().await.is_none());
    assert_eq!(world.daemon.wait().code(), Some(0));
    assert!(world.daemon.log().contains("stopped"));
}

#[tokio::test]
async fn who_was_accepted_before_a_stop_is_answered() {
    let mut world = World::new("accepted").await;
    let mut alice = world.user("alice").await;
    let address = &world.daemon.address;
    let request = get("GET", "/", "");
    let (begin, end) = request.split_at(request.len() / 2);
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(begin).await.unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    // Answered after the others were accepted, because they queue.
    assert_eq!(Answer::to(address, &request).await.status, 404);

    world.daemon.signal("TERM");
    alice.tab.end().await;
    for (mut socket, rest) in [(half, end), (silent, &request[..])] {
        socket.write_all(rest).await.unwrap();
        let mut answer = String::new();
        timeout(TIMEOUT, socket.read_to_string(&mut answer))
            .await
            .expect("the end in time")
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}");
    }
    assert_eq!(world.daemon.wait().code(), Some(0));
}

#[tokio::test]
async fn while_the_database_is_unreachable_browsers_are_asked_to_come_back() {
    let cluster = Cluster::private();
    let world = World::on(&cluster, "away", Shape::V1_0).await;
    let alice = world.user("alice").await;
    cluster.stop();
    world.daemon.wait_for_log("query session lost");
    let mut answer = Answer::subscribe(&world.daemon.address, &alice.session_id).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let block = answer.block().await.expect("a whole block");
    assert!(
        (2000..8000).contains(&block.retry.expect("retry")),
        "{block:?}"
    );
    // Unknown and malformed sessions get the same answer.
    let mut answer = Answer::subscribe(&world.daemon.address, "unknownunknownunknownunknown").await;
    assert!(answer.block().await.expect("a whole block").retry.is_some());
}

#[tokio::test]
async fn a_unix_socket_is_served_replaced_when_stale_and_removed_at_the_end() {
    let (database, role) = installed(Cluster::shared(), "unix", Shape::V1_0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = ConfigDir::new(
        &format!("host = \"{}\"", path.display()),
        &resource(&database, &role),
    );
    let mut daemon = Daemon::launch(config);
    let mut socket = UnixStream::connect(&path).await.unwrap();
    socket
        .write_all(&get("GET", "/", "Connection: close\r\n"))
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    // A second daemon does not take it over from the first.
    let second = Said::with(&daemon.config, &["run"]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("bridge.sock"), "{second}");

    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn the_default_host_takes_ipv6_and_ipv4_and_names_take_all_their_addresses() {
    let (database, role) = installed(Cluster::shared(), "hosts", Shape::V1_0);
    for host in ["", "host = [::]\n", "host = ::\n", "host = localhost\n"] {
        let config = ConfigDir::new(&format!("{host}port = 0"), &resource(&database, &role));
        let daemon = Daemon::launch(config);
        let address: std::net::SocketAddr = daemon.address.parse().unwrap();
        let addresses = match host {
            "host = localhost\n" => vec![daemon.address.clone()],
            _ => vec![
                format!("127.0.0.1:{}", address.port()),
                format!("[::1]:{}", address.port()),
            ],
        };
        for address in addresses {
            let answer = Answer::to(&address, &get("GET", "/", "")).await;
            assert_eq!(answer.status, 404, "{host:?} {address}");
        }
    }
}
