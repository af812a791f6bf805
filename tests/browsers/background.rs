//! Tabs in the background, which is when a popup matters: browsers slow down their timers, Icinga Web sends no requests any more,
//! and Firefox ends a service worker that is idle for 30 seconds, and with it its streams.
//!
//! The module's name puts its tests among the first, because nothing else takes as long.

use std::ops::Range;
use std::time::Duration;

use crate::common::apache::Apache;
use crate::common::eventsource::Site;
use crate::common::nginx::Nginx;
use crate::common::webdriver::{Browser, Seen};
use crate::common::world::World;
use crate::common::{chromium, firefox};
use rand::RngExt as _;
use tokio::time::Instant;

use super::desktop::{Desktop, OPEN};

/// How long the tabs are in the background.
const AWAY: Duration = Duration::from_secs(180);

/// Time between two events, mostly.
const PAUSE: Range<Duration> = Duration::from_secs(5)..Duration::from_secs(15);

/// After every third: twice as long as Firefox lets a worker be idle.
const LULL: Range<Duration> = Duration::from_secs(62)..Duration::from_secs(75);

/// `tabs` tabs are hidden all the time. Each event is shown once, in order.
async fn hidden_tabs_show_each_event_once(
    world: &World,
    site: &Site,
    browser: Browser,
    tabs: usize,
) {
    let (mut desktop, _) = Desktop::of(world, site, browser).await;
    for _ in 1..tabs {
        let tab = desktop.browser.open(&site.url()).await;
        desktop.browser.wait_for_state(&tab, OPEN).await;
    }
    desktop.browser.look_away(&site.url()).await;
    let back = Instant::now() + AWAY;
    while Instant::now() < back {
        let object = format!("hidden {}", desktop.expected.len());
        desktop.notify(world, &object).await;
        let lull = desktop.expected.len().is_multiple_of(3);
        let pause = if lull { LULL } else { PAUSE };
        tokio::time::sleep(rand::rng().random_range(pause)).await;
        let seen = desktop.browser.ask_others(tabs).await;
        assert!(seen.iter().all(Seen::is_hidden_and_alive), "{seen:?}");
    }
    // A repeated event would have arrived by this time.
    let last = desktop.notify(world, "the last").await;
    world.delivered(last.history[0]).await;
    desktop.reports().await;
}

#[tokio::test]
async fn firefox_behind_nginx_one_tab() {
    let world = World::behind_proxies("background").await;
    let nginx = Nginx::shipped();
    let browser = firefox::start().await;
    hidden_tabs_show_each_event_once(&world, &nginx.sites()[0], browser, 1).await;
}

#[tokio::test]
async fn firefox_behind_nginx_two_tabs() {
    let world = World::behind_proxies("background").await;
    let nginx = Nginx::shipped();
    let browser = firefox::start().await;
    hidden_tabs_show_each_event_once(&world, &nginx.sites()[1], browser, 2).await;
}

#[tokio::test]
async fn firefox_behind_apache_one_tab() {
    let world = World::behind_proxies("background").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    let browser = firefox::start().await;
    hidden_tabs_show_each_event_once(&world, &apache.sites()[1], browser, 1).await;
}

#[tokio::test]
async fn firefox_behind_apache_two_tabs() {
    let world = World::behind_proxies("background").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    let browser = firefox::start().await;
    hidden_tabs_show_each_event_once(&world, &apache.sites()[0], browser, 2).await;
}

#[tokio::test]
async fn chromium_behind_nginx_two_tabs() {
    let world = World::behind_proxies("background").await;
    let nginx = Nginx::shipped();
    let browser = chromium::start(&nginx.certificate).await;
    hidden_tabs_show_each_event_once(&world, &nginx.sites()[1], browser, 2).await;
}

#[tokio::test]
async fn chromium_behind_apache_one_tab() {
    let world = World::behind_proxies("background").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    let browser = chromium::start(&apache.certificate).await;
    hidden_tabs_show_each_event_once(&world, &apache.sites()[1], browser, 1).await;
}
