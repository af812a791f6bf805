//! Several bridges on one database, behind one proxy with the shipped files.

use crate::common::apache::Apache;
use crate::common::daemon::Daemon;
use crate::common::eventsource::{EventSource, Site};
use crate::common::network::enter_private_network;
use crate::common::nginx::Nginx;
use crate::common::wait::eventually;
use crate::common::world::World;

use super::browser::Browser;

/// The addresses of the bridges in the shipped files for several.
const BRIDGES: [&str; 2] = ["192.0.2.11", "192.0.2.12"];

/// Behind `sites`, which are proxies for two bridges on one database.
async fn several_bridges(world: World, sites: &[Site]) {
    let mut bridges =
        BRIDGES.map(|address| Some(world.another_daemon(&format!("host = {address}"))));
    // Until each bridge has a browser of each site.
    let mut browsers: [Vec<Browser>; 2] = Default::default();
    for site in sites {
        // A browser that is late on a busy machine, and does not send what it has read, would receive it again.
        let site = &site.clone().naming();
        let enough = browsers[0].len().max(browsers[1].len()) + 1;
        while browsers.iter().any(|browsers| browsers.len() < enough) {
            let browser = world.browser(site).await;
            let at = bridge_of(&bridges, browser.contact, 1).await;
            // A second tab, and one that replaces it: on the same bridge.
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
}

/// Which of the bridges has opened `count` or more streams of that contact, and so all of them.
async fn bridge_of(bridges: &[Option<Daemon>; 2], contact: i64, count: usize) -> usize {
    let opened = |bridge: &Option<Daemon>| {
        let log = bridge.as_ref().expect("it runs").log();
        log.matches(&format!("stream opened for contact {contact},"))
            .count()
    };
    // Another thread reads the log.
    let opened = eventually(async || {
        let opened = [opened(&bridges[0]), opened(&bridges[1])];
        if opened[0] + opened[1] >= count {
            Ok(opened)
        } else {
            Err(format!("{opened:?} streams opened, not {count} yet"))
        }
    })
    .await;
    assert!(opened.contains(&0), "on both bridges: {opened:?}");
    usize::from(opened[1] > 0)
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
