//! What users see: the popups of a real Chromium and a real Firefox whose tabs share streams through a service worker, behind the
//! real proxies with the shipped files.

use crate::common::apache::Apache;
use crate::common::eventsource::Site;
use crate::common::nginx::Nginx;
use crate::common::webdriver::Browser;
use crate::common::world::World;
use crate::common::{chromium, firefox};

use super::desktop::Desktop;

async fn each_popup_comes_once(world: &mut World, site: &Site, browser: Browser) {
    let (mut desktop, first) = Desktop::of(world, site, browser).await;
    desktop.shows(world, "one tab").await;
    let tabs = desktop.changes_tabs(world, site, first).await;
    desktop.reloads_all(world, &tabs).await;
    for signal in ["TERM", "KILL"] {
        desktop.is_without_a_daemon(world, &tabs, signal).await;
    }
    desktop.signs_out(world, &tabs).await;
}

#[tokio::test]
async fn behind_nginx_each_popup_comes_once_in_chromium() {
    let mut world = World::behind_proxies("chromium_nginx").await;
    let nginx = Nginx::shipped();
    for site in nginx.sites() {
        let browser = chromium::start(&nginx.certificate).await;
        each_popup_comes_once(&mut world, &site, browser).await;
    }
}

#[tokio::test]
async fn behind_apache_each_popup_comes_once_in_chromium() {
    let mut world = World::behind_proxies("chromium_apache").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    for site in apache.sites() {
        let browser = chromium::start(&apache.certificate).await;
        each_popup_comes_once(&mut world, &site, browser).await;
    }
}

#[tokio::test]
async fn behind_nginx_each_popup_comes_once_in_firefox() {
    let mut world = World::behind_proxies("firefox_nginx").await;
    let nginx = Nginx::shipped();
    for site in nginx.sites() {
        let browser = firefox::start().await;
        each_popup_comes_once(&mut world, &site, browser).await;
    }
}

#[tokio::test]
async fn behind_apache_each_popup_comes_once_in_firefox() {
    let mut world = World::behind_proxies("firefox_apache").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    for site in apache.sites() {
        let browser = firefox::start().await;
        each_popup_comes_once(&mut world, &site, browser).await;
    }
}
