//! What people see: the popups of a real Chromium whose tabs share streams through a service worker, behind the real
//! proxies with the shipped files.

use crate::common::apache::Apache;
use crate::common::chromium::{Chromium, Tab};
use crate::common::eventsource::Site;
use crate::common::icinga::Written;
use crate::common::nginx::Nginx;
use crate::common::tls::Certificate;
use crate::common::world::World;

/// EventSource's states.
const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// A browser of a user, and what it has to have shown.
struct Desktop {
    chromium: Chromium,
    contact: i64,
    session_id: String,
    expected: Vec<String>,
}

impl Desktop {
    /// Signs a user in, in a browser whose first tab has a stream.
    async fn of(world: &World, site: &Site, certificate: &Certificate) -> (Self, Tab) {
        let chromium = Chromium::start(certificate).await;
        let name = format!("user of {}", site.url());
        let contact = world.icinga.contact(&name).await;
        let session_id = world.icinga.sign_in(&name, &chromium.user_agent).await;
        let tab = chromium.sign_in(&site.url(), &session_id).await;
        chromium.wait_for_state(&tab, OPEN).await;
        let desktop = Self {
            chromium,
            contact,
            session_id,
            expected: Vec::new(),
        };
        (desktop, tab)
    }

    /// Notifies the user of a new incident, which the browser has to show.
    async fn notify(&mut self, world: &World, object: &str) -> Written {
        self.expected.push(object.to_owned());
        world.incident(self.contact, object).await
    }

    /// Everything that was to be shown is there, once and in order, and nothing else.
    async fn has_shown(&self, world: &World, last: &Written) {
        self.chromium.wait_for_popups(&self.expected).await;
        // What was delivered is not told again from here on.
        world.delivered(last.history[0]).await;
    }
}

async fn each_popup_comes_once(world: &mut World, site: &Site, certificate: &Certificate) {
    let (mut desktop, first) = Desktop::of(world, site, certificate).await;
    let shown = desktop.notify(world, "one tab").await;
    desktop.has_shown(world, &shown).await;

    // Two tabs have a stream, the others none.
    let url = site.url();
    let second = desktop.chromium.open(&url).await;
    desktop.chromium.wait_for_state(&second, OPEN).await;
    let third = desktop.chromium.open(&url).await;
    desktop.chromium.wait_for_state(&third, CLOSED).await;
    let shown = desktop.notify(world, "three tabs").await;
    desktop.has_shown(world, &shown).await;

    // The tab that is given the events leaves just before one, and another takes its place.
    desktop.chromium.close(first, &third).await;
    let shown = desktop.notify(world, "a closed tab").await;
    desktop.has_shown(world, &shown).await;
    desktop.chromium.wait_for_state(&third, OPEN).await;

    // All tabs at once.
    for tab in [&second, &third] {
        desktop.chromium.reload(tab).await;
    }
    let shown = desktop.notify(world, "reloaded tabs").await;
    desktop.has_shown(world, &shown).await;
    for tab in [&second, &third] {
        desktop.chromium.wait_for_state(tab, OPEN).await;
    }

    // No stream at all is open when the event comes; after a kill, not before the tabs have met the proxy's own answer.
    for signal in ["TERM", "KILL"] {
        world.daemon.signal(signal);
        world.daemon.wait();
        desktop
            .notify(world, &format!("{signal}: daemon away"))
            .await;
        if signal == "KILL" {
            desktop.chromium.wait_for_answer(&second).await;
        }
        world.daemon = world.another_daemon("");
        let shown = desktop
            .notify(world, &format!("{signal}: daemon back"))
            .await;
        desktop.has_shown(world, &shown).await;
        for tab in [&second, &third] {
            desktop.chromium.wait_for_state(tab, OPEN).await;
        }
    }

    // Nothing of what comes after a sign-out is shown, and nothing that was shown comes again.
    world.icinga.sign_out(&desktop.session_id).await;
    for tab in [&second, &third] {
        desktop.chromium.wait_for_state(tab, CLOSED).await;
    }
    world.incident(desktop.contact, "signed out").await;
    assert_eq!(desktop.chromium.popups().await, desktop.expected);
    let on_desktop = desktop.chromium.on_desktop().await;
    assert_eq!(on_desktop, desktop.expected.len() as u64);
}

#[tokio::test]
async fn behind_nginx_each_popup_comes_once() {
    let mut world = World::behind_proxies("chromium_nginx").await;
    let nginx = Nginx::shipped();
    for site in nginx.sites() {
        each_popup_comes_once(&mut world, &site, &nginx.certificate).await;
    }
}

#[tokio::test]
async fn behind_apache_each_popup_comes_once() {
    let mut world = World::behind_proxies("chromium_apache").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    for site in apache.sites() {
        each_popup_comes_once(&mut world, &site, &apache.certificate).await;
    }
}
