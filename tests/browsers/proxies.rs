//! Through real reverse proxies, with the shipped files as they are: nginx and Apache, over HTTP/1.1 and HTTP/2.
//!
//! Each test has a network of its own, where the addresses and ports in those files are free.

use std::time::Duration;

use crate::common::apache::Apache;
use crate::common::daemon::Daemon;
use crate::common::eventsource::{Connection, EventSource, Site};
use crate::common::network::enter_private_network;
use crate::common::nginx::Nginx;
use crate::common::sse::{AGENT, PATIENCE};
use crate::common::world::World;
use tokio::time::Instant;

/// The addresses of the bridges in the shipped files for several.
const BRIDGES: [&str; 2] = ["192.0.2.11", "192.0.2.12"];

/// A signed-in browser with a tab.
struct Browser {
    contact: i64,
    session_id: String,
    tab: EventSource,
}

impl World {
    /// Signs a browser in that has a tab open at `site`.
    async fn browser(&self, site: &Site) -> Browser {
        let name = format!("user {}", rand::random::<u64>());
        let contact = self.icinga.contact(&name).await;
        let session_id = self.icinga.sign_in(&name, AGENT).await;
        let tab = EventSource::open(site, &session_id).await;
        Browser {
            contact,
            session_id,
            tab,
        }
    }

    /// Notifies each browser of an incident of its own, and asserts that this is the next event that each gets.
    /// Returns when that is stored.
    async fn next_is_new(&self, browsers: &mut [Browser]) {
        for browser in browsers {
            let written = self.incident(browser.contact, "next").await;
            let event = browser.tab.event().await;
            assert_eq!(event.incident(), written.incident, "{event:?}");
            self.delivered(written.history[0]).await;
        }
    }
}

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
                browser.tab.told_away().await;
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

/// Named so that it begins first: it takes longest, by its nature.
#[tokio::test]
async fn a_silence_of_two_minutes_ends_no_stream() {
    let world = World::behind_proxies("silence").await;
    let (nginx, apache) = (
        Nginx::shipped(),
        Apache::including("icinga-desktop-bridge.conf"),
    );
    let mut browsers = Vec::new();
    for site in nginx.sites().iter().chain(&apache.sites()) {
        browsers.push(world.browser(site).await);
    }
    tokio::time::sleep(Duration::from_secs(121)).await;
    world.next_is_new(&mut browsers).await;
    for browser in &browsers {
        assert_eq!(browser.tab.ended, 0);
    }
}

#[tokio::test]
async fn a_browser_that_leaves_frees_its_place() {
    let world = World::behind_proxies("places").await;
    let (nginx, apache) = (
        Nginx::shipped(),
        Apache::including("icinga-desktop-bridge.conf"),
    );
    for site in nginx.sites().iter().chain(&apache.sites()) {
        let browser = world.browser(site).await;
        let mut connection = Connection::to(site).await;
        let mut second = Connection::to(site).await;
        for _ in 0..3 {
            let stream = connection.subscribe(&browser.session_id).await;
            assert_eq!(stream.status(), 200, "{site:?}");
            let third = second.subscribe(&browser.session_id).await;
            assert_eq!(third.status(), 204, "{site:?}");
            drop(stream);
            if !connection.outlives_streams() {
                connection = Connection::to(site).await;
            }
        }
    }
}

/// Behind `sites`, which are proxies for two bridges on one database.
async fn several_bridges(world: World, sites: &[Site]) {
    let mut bridges =
        BRIDGES.map(|address| Some(world.another_daemon(&format!("host = {address}"))));
    // Until each bridge has one of each site.
    let mut browsers: [Vec<Browser>; 2] = Default::default();
    for site in sites {
        let enough = browsers[0].len().max(browsers[1].len()) + 1;
        while browsers.iter().any(|browsers| browsers.len() < enough) {
            let browser = world.browser(site).await;
            let at = bridge_of(&bridges, browser.contact, 1).await;
            // A second tab, and one that takes its place: by the same bridge.
            for count in 2..4 {
                let tab = EventSource::open(site, &browser.session_id).await;
                assert_eq!(bridge_of(&bridges, browser.contact, count).await, at);
                drop(tab);
            }
            browsers[at].push(browser);
        }
    }
    let [mut first, mut second] = browsers;
    world.next_is_new(&mut first).await;
    world.next_is_new(&mut second).await;

    let killed = bridges[0].take().expect("it runs");
    killed.signal("KILL");
    drop(killed);
    let mut missed = Vec::new();
    for browser in first.iter().chain(&second) {
        missed.push(world.incident(browser.contact, "meanwhile").await);
    }
    for (browser, missed) in first.iter_mut().chain(&mut second).zip(&missed) {
        assert_eq!(browser.tab.event().await.incident(), missed.incident);
        world.delivered(missed.history[0]).await;
    }
    world.next_is_new(&mut first).await;
    world.next_is_new(&mut second).await;
    for browser in &second {
        assert_eq!(browser.tab.ended, 0, "the other bridge was not killed");
    }
}

/// Which of the bridges has opened `count` streams of that contact, and so all of them.
async fn bridge_of(bridges: &[Option<Daemon>; 2], contact: i64, count: usize) -> usize {
    let opened = |bridge: &Option<Daemon>| {
        let log = bridge.as_ref().expect("it runs").log();
        log.matches(&format!("stream opened for contact {contact},"))
            .count()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let opened = [opened(&bridges[0]), opened(&bridges[1])];
        if opened[0] + opened[1] == count {
            assert!(opened.contains(&0), "on both bridges: {opened:?}");
            return usize::from(opened[1] == count);
        }
        assert!(Instant::now() < deadline, "{opened:?}, not {count}");
        // The log is read by another thread.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nginx_keeps_a_browser_on_one_of_several_bridges_until_that_dies() {
    enter_private_network(&BRIDGES);
    let world = World::new("nginx_several").await;
    let nginx = Nginx::for_several();
    several_bridges(world, &nginx.sites()).await;
}

#[tokio::test]
async fn apache_keeps_a_browser_on_one_of_several_bridges_until_that_dies() {
    enter_private_network(&BRIDGES);
    let world = World::new("apache_several").await;
    let apache = Apache::including("icinga-desktop-bridge-several.conf");
    several_bridges(world, &apache.sites()).await;
}
