//! Clients that are many, slow, silent, or never read: others are not affected.

use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::eventsource::{EventSource, Site};
use crate::common::icinga::{Event, Shape};
use crate::common::postgres::Cluster;
use crate::common::sse::{AGENT, Answer, request};
use crate::common::wait::eventually;
use crate::common::world::{User, World, installed, resource};
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

#[tokio::test]
async fn silent_and_slow_connections_do_not_disturb_a_stream() {
    let world = World::new("silent").await;
    let mut alice = world.user("alice").await;
    let mut connections = Vec::new();
    for number in 0..400 {
        let mut socket = TcpStream::connect(&world.daemon.address)
            .await
            .expect("accepted");
        if number % 2 == 0 {
            socket
                .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
                .await
                .expect("read");
        }
        connections.push(socket);
    }
    let mut bob = world.user("bob").await;
    world.nothing_else(&mut [&mut alice, &mut bob]).await;
    for mut socket in connections {
        let mut rest = Vec::new();
        // Cut by the header timeout, perhaps with a 408.
        let _ = socket.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn malformed_cookies_are_refused_without_asking_the_database() {
    let world = World::new("malformed").await;
    world.icinga.contact("alice").await;
    let well_formed = world.icinga.sign_in("alice", AGENT).await;
    // Every query for a session has to wait for this.
    world
        .icinga
        .by_hand("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    for session_id in [
        "",
        "short",
        "a'b--abcdefghijklmnopqrstuvwxyz",
        &"x".repeat(300),
    ] {
        let answer = Answer::subscribe(&world.daemon.address, session_id).await;
        assert_eq!(answer.status, 204, "{session_id}");
    }
    // A well-formed one is asked to come back later, and does not wait forever.
    let mut answer = Answer::subscribe(&world.daemon.address, &well_formed).await;
    assert_eq!(answer.status, 200);
    assert!(answer.block().await.expect("a block").retry.is_some());
    assert!(answer.block().await.is_none());
    world.icinga.by_hand("ROLLBACK").await;
}

#[tokio::test]
async fn events_do_not_wait_for_sign_ins_that_wait_for_a_lock() {
    let world = World::new("locked").await;
    let mut alice = world.user("alice").await;
    world.icinga.contact("bob").await;
    let bob = world.icinga.sign_in("bob", AGENT).await;
    let locker = world.database.connect().await;
    locker
        .run("BEGIN; LOCK TABLE browser_session IN ACCESS EXCLUSIVE MODE")
        .await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut socket = TcpStream::connect(&world.daemon.address)
            .await
            .expect("accepted");
        let request = request(&bob, AGENT);
        socket.write_all(request.as_bytes()).await.expect("read");
        waiting.push(socket);
    }
    world.nothing_else(&mut [&mut alice]).await;
    locker.run("ROLLBACK").await;
}

#[tokio::test]
async fn a_client_that_pipelines_or_goes_on_talking_is_not_listened_to() {
    let world = World::new("talking").await;
    let mut alice = world.user("alice").await;
    let mut socket = TcpStream::connect(&world.daemon.address)
        .await
        .expect("accepted");
    let first = request(&alice.session_id, AGENT);
    socket
        .write_all(first.repeat(3).as_bytes())
        .await
        .expect("read");
    socket
        .write_all(&vec![b'x'; 1 << 20])
        .await
        .expect("read, and forgotten");
    world.daemon.wait_for_nth_log("stream opened", 2);
    assert_eq!(world.daemon.log().matches("stream opened").count(), 2);
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn a_client_that_never_reads_costs_less_than_a_megabyte() {
    let world = World::new("never_reads").await;
    let (mut alice, mut bob) = (world.user("alice").await, world.user("bob").await);
    // Their newest streams, which therefore receive events.
    let mut others = Vec::new();
    for name in ["carol", "dave", "erin"] {
        let contact = world.icinga.contact(name).await;
        let session_id = world.icinga.sign_in(name, AGENT).await;
        others.push((contact, world.stream(&session_id).await));
    }
    let stuck = world.stream(&alice.session_id).await;
    let storm = |contact: i64| {
        format!(
            "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
             SELECT i.id, {contact}, 1, 0, repeat('x', 500), 'notified', 'pending' FROM incident i WHERE i.id <= 10000 ORDER BY i.id"
        )
    };
    world
        .icinga
        .by_hand(
            "INSERT INTO object (id, source_id, name)
               SELECT sha256(n::text::bytea), 1, 'object ' || n FROM generate_series(1, 10000) n;
             INSERT INTO incident (object_id, started_at, severity)
               SELECT sha256(n::text::bytea), 0, 'crit' FROM generate_series(1, 10000) n",
        )
        .await;
    // The memory for the storm itself and for one such client is allocated before the measurement; and it uses several, because
    // the allocator's own variation is of the same size.
    let [(carol, _), measured @ ..] = &others[..] else {
        unreachable!("three");
    };
    world.icinga.by_hand(&storm(*carol)).await;
    // Bob's event comes after all of carol's.
    world.nothing_else(&mut [&mut bob]).await;
    let before = resident(world.daemon.pid());
    let contacts = measured
        .iter()
        .map(|(contact, _)| *contact)
        .chain([alice.contact]);
    for contact in contacts.clone() {
        world.icinga.by_hand(&storm(contact)).await;
        world.nothing_else(&mut [&mut bob]).await;
    }
    let clients = i64::try_from(contacts.count()).expect("a few");
    // The allocator gives back what the last storm needed a moment later.
    eventually(async || {
        let grown = (resident(world.daemon.pid()) - before) / clients;
        let small = (grown < 1024).then_some(());
        small.ok_or(format!("{grown} KiB for each client that does not read"))
    })
    .await;
    drop(stuck);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 10_000 {
        let incident = alice.tab.event().await.incident();
        assert!(seen.insert(incident), "incident {incident} came twice");
    }
    world.nothing_else(&mut [&mut alice]).await;
}

#[tokio::test]
async fn places_for_streams_are_bounded_by_the_limit_on_open_files() {
    let (database, role) = installed(Cluster::shared(), "places", Shape::V1_0);
    let config = ConfigDir::new("host = 127.0.0.1\nport = 0", &resource(&database, &role));
    let daemon = Daemon::launch_limited(config, 104);
    daemon.wait_for_log("ready: ");
    // 104 files, less 64 reserved: a quarter for connections that are not streams, the rest for streams.
    daemon.wait_for_log("room for 30 streams");
    let icinga = crate::common::icinga::Icinga::new(database.connect().await, Shape::V1_0);
    let mut streams = Vec::new();
    for number in 0..30 {
        let name = format!("user{number}");
        let contact = icinga.contact(&name).await;
        let session_id = icinga.sign_in(&name, AGENT).await;
        let site = Site::daemon(&daemon.address, AGENT);
        let tab = EventSource::open(&site, &session_id).await;
        streams.push(User {
            contact,
            session_id,
            tab,
        });
    }
    icinga.contact("late").await;
    let late = icinga.sign_in("late", AGENT).await;
    // A place may be free for a moment, because a browser is reconnecting.
    eventually(async || {
        let mut answer = Answer::subscribe(&daemon.address, &late).await;
        assert_eq!(answer.status, 200);
        let first = answer.block().await.expect("a block");
        match first.raw.strip_prefix("retry: ") {
            Some(_) => Ok(()),
            None => Err(format!("let in: {first:?}")),
        }
    })
    .await;
    daemon.wait_for_log("the maximum number of streams is reached");

    let notified: Vec<_> = streams
        .iter()
        .map(|user| (user.contact, 1, "pending"))
        .collect();
    let event = Event {
        object: "o",
        severity: Some("crit"),
        notified: &notified,
        ..Event::default()
    };
    let written = icinga.event(event).await;
    for user in &mut streams {
        assert_eq!(user.tab.event().await.incident(), written.incident);
    }
    // A browser that leaves frees a place.
    streams.pop();
    daemon.wait_for_log("client left");
    let site = Site::daemon(&daemon.address, AGENT);
    EventSource::open_at_last(&site, &late).await;
}

#[tokio::test]
async fn a_stop_ends_thousands_of_streams_cleanly() {
    // Ten thousand are tested in `benches/bridge/stop.rs`: this build is not optimized, and its machine is busy.
    const STREAMS: usize = 2_000;
    // Sign-ins at a time.
    const AT_A_TIME: usize = 50;
    crate::common::raise_file_limit();
    let mut world = World::new("stop").await;
    world
        .icinga
        .by_hand(&format!(
            "INSERT INTO contact (full_name, username, default_channel_id, changed_at)
               SELECT n::text, 'u' || n, 1, 0 FROM generate_series(1, {STREAMS}) n;
             INSERT INTO browser_session SELECT 'session-of-user-number-' || n, 'u' || n, 'agent', 0
               FROM generate_series(1, {STREAMS}) n"
        ))
        .await;
    let address = &world.daemon.address;
    let mut streams: Vec<Answer> = stream::iter(1..=STREAMS)
        .map(|number| async move {
            let session_id = format!("session-of-user-number-{number}");
            let request = request(&session_id, "agent");
            let mut stream = Answer::to(address, request.as_bytes()).await;
            assert_eq!(stream.status, 200);
            stream.block().await.expect("a first block");
            stream
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    world.daemon.signal("TERM");
    let mut retries = std::collections::HashSet::new();
    for stream in &mut streams {
        let mut final_block = stream.block().await.expect("a farewell");
        while final_block.raw == ":\n\n" || final_block.is_mark() {
            final_block = stream.block().await.expect("a farewell");
        }
        retries.insert(final_block.retry.expect("retry"));
        assert!(stream.block().await.is_none());
    }
    assert!(retries.len() > 500, "not all at once: {}", retries.len());
    assert_eq!(world.daemon.wait().code(), Some(0));
}
