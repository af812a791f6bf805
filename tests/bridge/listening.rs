//! The addresses that the daemon listens on: the ports of both generations of the web module, or only those of `[daemon]`.
//!
//! Each test has its own network, in which both ports are free.

use std::fs;
use std::net::{TcpListener, TcpStream};

use crate::common::command::Said;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::network::enter_private_network;
use crate::common::sse::Answer;

/// The addresses that proxies of either generation use: port 9001 from the manual, and the one of releases 0.1 to 0.3.
const PLACES: [&str; 3] = ["127.0.0.1:9001", "[::1]:9001", "127.0.0.1:5664"];

/// A configuration without a database: a request without a session is answered all the same. `daemon` is the section, if any.
fn config(daemon: &str) -> ConfigDir {
    let config = ConfigDir::new("", "host = /nowhere\ndbname = x\nusername = x");
    let file = config.path().join("modules/notifications/config.ini");
    let text = format!("{daemon}\n[database]\nresource = \"icinga_notifications\"\n");
    fs::write(file, text).expect("config.ini");
    config
}

/// Asserts that these addresses are served, and nothing listens on the others of [`PLACES`].
async fn only(served: &[&str]) {
    for place in PLACES {
        if served.contains(&place) {
            let request = b"GET /icingaweb2/notifications/v1/subscribe HTTP/1.1\r\nHost: h\r\n\r\n";
            assert_eq!(Answer::to(place, request).await.status, 204, "{place}");
        } else {
            assert!(TcpStream::connect(place).is_err(), "{place} is served");
        }
    }
}

#[tokio::test]
async fn without_a_word_in_the_configuration_the_proxies_of_both_generations_are_served() {
    enter_private_network(&[]);
    for section in ["", "[daemon]\nhost =\nport = \"\""] {
        let daemon = Daemon::launch(config(section));
        daemon.wait_for_log("listening on [::]:9001");
        daemon.wait_for_log("listening on 127.0.0.1:5664");
        only(&PLACES).await;
        assert!(!daemon.log().contains("cannot listen"), "{}", daemon.log());
    }
}

#[tokio::test]
async fn with_a_host_or_a_port_only_that_place_is_served() {
    enter_private_network(&[]);
    for (keys, served) in [
        ("host = [::]\nport = 9001", &PLACES[..2]),
        ("host = 127.0.0.1\nport = 5664", &PLACES[2..]),
        ("host = 127.0.0.1", &PLACES[..1]),
        ("port = 5664", &PLACES[2..]),
        ("host = ::1", &PLACES[1..2]),
    ] {
        let _daemon = Daemon::launch(config(&format!("[daemon]\n{keys}")));
        only(served).await;
    }
}

#[tokio::test]
async fn while_one_port_is_taken_the_other_is_served_and_the_log_says_so() {
    enter_private_network(&[]);
    for (taken, address, served) in [
        ("127.0.0.1:5664", "127.0.0.1:5664", "[::]:9001"),
        ("0.0.0.0:9001", "[::]:9001", "127.0.0.1:5664"),
    ] {
        let other = TcpListener::bind(taken).expect("the port is free here");
        let daemon = Daemon::launch(config(""));
        let warning = daemon.wait_for_log("cannot listen on ");
        for part in [
            "WARN",
            &format!("cannot listen on {address}: Address already in use"),
            &format!("; serving {served} only. "),
            "stop the program that listens there, for example the PHP daemon, and restart this service",
        ] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        drop(other);
        let expected = if served == "[::]:9001" {
            &PLACES[..2]
        } else {
            &PLACES[2..]
        };
        only(expected).await;
    }
}

#[test]
fn while_both_ports_are_taken_nothing_is_served() {
    enter_private_network(&[]);
    let _others = ["127.0.0.1:5664", "127.0.0.1:9001"]
        .map(|place| TcpListener::bind(place).expect("the port is free here"));
    let said = Said::with(&config(""), &["run"]);
    // A restart may help: the PHP daemon may just be stopping.
    assert_eq!(said.code, Some(1), "{said}");
    for part in [
        "ERROR",
        "cannot listen on [::]:9001: Address already in use",
        ", nor on 127.0.0.1:5664: Address already in use",
        "; check [daemon] host and port, and which program listens there",
    ] {
        assert!(said.stderr.contains(part), "{part}: {said}");
    }
}
