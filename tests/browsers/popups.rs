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

    /// Notifies the user, and waits until everything that was to be shown is there, once and in order, and nothing else.
    async fn shows(&mut self, world: &World, object: &str) {
        let last = self.notify(world, object).await;
        self.chromium.wait_for_popups(&self.expected).await;
        // What was delivered is not told again from here on.
        world.delivered(last.history[0]).await;
    }

    async fn wait_for_state(&self, tabs: &[Tab], state: u64) {
        for tab in tabs {
            self.chromium.wait_for_state(tab, state).await;
        }
    }

    /// Opens two further tabs and closes the first. Returns the further ones, which have streams.
    async fn changes_tabs(&mut self, world: &World, site: &Site, first: Tab) -> [Tab; 2] {
        // Two tabs have a stream, the others none.
        let url = site.url();
        let second = self.chromium.open(&url).await;
        self.chromium.wait_for_state(&second, OPEN).await;
        let third = self.chromium.open(&url).await;
        self.chromium.wait_for_state(&third, CLOSED).await;
        self.shows(world, "three tabs").await;

        // The tab that is given the events leaves just before one, and another takes its place.
        self.chromium.close(first, &third).await;
        self.shows(world, "a closed tab").await;
        self.chromium.wait_for_state(&third, OPEN).await;
        [second, third]
    }

    async fn reloads_all(&mut self, world: &World, tabs: &[Tab; 2]) {
        for tab in tabs {
            self.chromium.reload(tab).await;
        }
        self.shows(world, "reloaded tabs").await;
        self.wait_for_state(tabs, OPEN).await;
    }

    /// No stream at all is open when the event comes; after a kill, not before the tabs have met the proxy's own answer.
    async fn is_without_a_daemon(&mut self, world: &mut World, tabs: &[Tab; 2], signal: &str) {
        world.daemon.signal(signal);
        world.daemon.wait();
        let away = format!("{signal}: daemon away");
        self.notify(world, &away).await;
        if signal == "KILL" {
            self.chromium.wait_for_answer(&tabs[0]).await;
        }
        world.daemon = world.another_daemon("");
        let back = format!("{signal}: daemon back");
        self.shows(world, &back).await;
        self.wait_for_state(tabs, OPEN).await;
    }

    /// Nothing of what comes afterwards is shown, and nothing that was shown comes again.
    async fn signs_out(self, world: &World, tabs: &[Tab; 2]) {
        world.icinga.sign_out(&self.session_id).await;
        self.wait_for_state(tabs, CLOSED).await;
        world.incident(self.contact, "signed out").await;
        assert_eq!(self.chromium.popups().await, self.expected);
        let on_desktop = self.chromium.on_desktop().await;
        assert_eq!(on_desktop, self.expected.len() as u64);
    }
}

async fn each_popup_comes_once(world: &mut World, site: &Site, certificate: &Certificate) {
    let (mut desktop, first) = Desktop::of(world, site, certificate).await;
    desktop.shows(world, "one tab").await;
    let tabs = desktop.changes_tabs(world, site, first).await;
    desktop.reloads_all(world, &tabs).await;
    for signal in ["TERM", "KILL"] {
        desktop.is_without_a_daemon(world, &tabs, signal).await;
    }
    desktop.signs_out(world, &tabs).await;
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
