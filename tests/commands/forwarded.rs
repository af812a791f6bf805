//! What the shipped files of the proxies send to the daemon about the address of a client.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::common::apache::Apache;
use crate::common::network::enter_private_network;
use crate::common::nginx::Nginx;

/// Sends a request with a forged origin to a proxy. Returns what the proxy sends about that to the daemon, which `daemon` acts
/// as.
fn forwarded_for(daemon: &TcpListener, proxy: &str) -> Vec<String> {
    let mut client = TcpStream::connect(proxy).expect("the proxy accepts");
    write!(
        client,
        "GET /icingaweb2/notifications/v1/subscribe HTTP/1.1\r\nHost: localhost\r\nCookie: Icingaweb2=x\r\n\
         X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2\r\n\r\n"
    )
    .expect("it reads");
    let (mut passed_on, _) = daemon.accept().expect("the proxy asks");
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = passed_on.read(&mut buffer).expect("the proxy writes");
        assert!(count > 0, "a part of a head");
        head.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(head)
        .expect("text")
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"))
        .map(|(_, value)| value.to_owned())
        .collect()
}

#[test]
fn only_the_proxy_says_where_a_client_is() {
    enter_private_network(&["192.0.2.11", "192.0.2.12"]);
    let daemon = TcpListener::bind("0.0.0.0:9001").expect("the port is free here");
    let nginx = Nginx::shipped();
    let apache = Apache::including("icinga-desktop-bridge.conf");
    let several = Apache::including("icinga-desktop-bridge-several.conf");
    for proxy in [&nginx.address, &apache.address, &several.address] {
        assert_eq!(forwarded_for(&daemon, proxy), ["127.0.0.1"], "{proxy}");
    }
}
