//! Through real reverse proxies, with the shipped files unchanged: nginx and Apache, over HTTP/1.1 and HTTP/2.
//!
//! Each test has its own network, in which the addresses and ports of those files are free.

use std::time::Duration;

use crate::common::apache::Apache;
use crate::common::eventsource::{EventSource, Site};
use crate::common::nginx::Nginx;
use crate::common::sse::AGENT;
use crate::common::world::World;
use tokio::time::Instant;

/// The configuration for the web module's releases 0.1 to 0.3, for nginx and for Apache.
const RELEASED: [&str; 2] = [
    "location ~ ^/icingaweb2/notifications/v(\\d+)/subscribe$ {
        proxy_pass http://127.0.0.1:5664;
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_set_header X-Icinga-Notifications-Protocol-Version $1;
        proxy_buffering off;
    }\n",
    "<LocationMatch \"^/icingaweb2/notifications/v(?<version>\\d+)/subscribe\">
        ProxyPassMatch http://127.0.0.1:5664 timeout=30 flushpackets=on
        RequestHeader set X-Icinga-Notifications-Protocol-Version %{MATCH_VERSION}e
    </LocationMatch>\n",
];

/// A tab at each of `sites` goes through a restart, a kill, and ten seconds without a daemon.
async fn trouble_loses_nothing(mut world: World, sites: &[Site]) {
    let mut browsers = Vec::new();
    for site in sites {
        browsers.push(world.browser(site).await);
    }
    world.next_is_new(&mut browsers).await;
    for (signal, away) in [
        ("TERM", Duration::ZERO),
        ("KILL", Duration::ZERO),
        ("TERM", Duration::from_secs(10)),
    ] {
        world.daemon.signal(signal);
        let back = Instant::now() + away;
        world.daemon.wait();
        let mut missed = Vec::new();
        for browser in &browsers {
            missed.push(world.incident(browser.contact, "missed").await.incident);
        }
        if !away.is_zero() {
            for browser in &mut browsers {
                browser.tab.refused_by_proxy().await;
            }
            tokio::time::sleep_until(back).await;
        }
        world.daemon = world.another_daemon("");
        for (browser, missed) in browsers.iter_mut().zip(missed) {
            assert_eq!(browser.tab.event().await.incident(), missed, "{signal}");
        }
        world.next_is_new(&mut browsers).await;
    }
}

#[tokio::test]
async fn behind_nginx_trouble_loses_and_doubles_nothing() {
    let world = World::behind_proxies("nginx").await;
    let nginx = Nginx::shipped();
    trouble_loses_nothing(world, &nginx.sites()).await;
}

#[tokio::test]
async fn behind_apache_trouble_loses_and_doubles_nothing() {
    let world = World::behind_proxies("apache").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    trouble_loses_nothing(world, &apache.sites()).await;
}

#[tokio::test]
async fn who_leaves_again_and_again_is_let_in_each_time() {
    let world = World::behind_proxies("places").await;
    let (nginx, apache) = (
        Nginx::shipped(),
        Apache::including("icinga-desktop-bridge.conf"),
    );
    for site in nginx.sites().iter().chain(&apache.sites()) {
        let contact = world.icinga.contact(&site.url()).await;
        let session_id = world.icinga.sign_in(&site.url(), AGENT).await;
        for _ in 0..5 {
            // It asserts that the first block is not one that asks to come back later.
            drop(EventSource::open(site, &session_id).await);
        }
        let mut tab = EventSource::open(site, &session_id).await;
        let written = world.incident(contact, "db1!disk").await;
        assert_eq!(tab.event().await.incident(), written.incident, "{site:?}");
    }
}

#[tokio::test]
async fn proxies_that_were_set_up_for_a_release_of_the_php_daemon_are_served() {
    let world = World::behind_proxies("released").await;
    let [nginx, apache] = RELEASED;
    let (nginx, apache) = (Nginx::with("", nginx), Apache::with(apache));
    let mut browsers = Vec::new();
    for site in nginx.sites().iter().chain(&apache.sites()) {
        browsers.push(world.browser(site).await);
    }
    // The second acknowledges the first.
    for _ in 0..2 {
        world.next_is_new(&mut browsers).await;
    }
}
