//! A signed-in user with a real browser.

use crate::common::eventsource::Site;
use crate::common::icinga::Written;
use crate::common::wait::eventually;
use crate::common::webdriver::{Browser, Tab, assert_same};
use crate::common::world::World;

/// EventSource's states.
pub(super) const OPEN: u64 = 1;
pub(super) const CLOSED: u64 = 2;

/// A user's browser, and what it must have shown.
pub(super) struct Desktop {
    pub(super) browser: Browser,
    pub(super) contact: i64,
    pub(super) session_id: String,
    pub(super) expected: Vec<String>,
}

impl Desktop {
    /// Signs a user in, in a browser whose first tab has a stream.
    pub(super) async fn of(world: &World, site: &Site, browser: Browser) -> (Self, Tab) {
        let name = format!("user of {}", site.url());
        let contact = world.icinga.contact(&name).await;
        let session_id = world.icinga.sign_in(&name, &browser.user_agent).await;
        let tab = browser.sign_in(&site.url(), &session_id).await;
        browser.wait_for_state(&tab, OPEN).await;
        let desktop = Self {
            browser,
            contact,
            session_id,
            expected: Vec::new(),
        };
        (desktop, tab)
    }

    /// Notifies the user of a new incident, which the browser must show.
    pub(super) async fn notify(&mut self, world: &World, object: &str) -> Written {
        self.expected.push(object.to_owned());
        world.incident(self.contact, object).await
    }

    /// Notifies the user, and waits until everything that must be shown is there, once and in order, and nothing else.
    pub(super) async fn shows(&mut self, world: &World, object: &str) {
        let last = self.notify(world, object).await;
        self.browser.wait_for_popups(&self.expected).await;
        // After this, delivered events are not sent again.
        world.delivered(last.history[0]).await;
    }

    pub(super) async fn wait_for_state(&self, tabs: &[Tab], state: u64) {
        for tab in tabs {
            self.browser.wait_for_state(tab, state).await;
        }
    }

    /// Opens two further tabs, and closes one that has a stream. Returns the other ones, which have streams.
    pub(super) async fn changes_tabs(
        &mut self,
        world: &World,
        site: &Site,
        first: Tab,
    ) -> Vec<Tab> {
        let mut tabs = vec![first];
        for _ in 0..2 {
            tabs.push(self.browser.open(&site.url()).await);
        }
        // Which one has none is a matter of chance: one may reconnect just when the third asks.
        self.two_are_open(&tabs).await;
        self.shows(world, "three tabs").await;

        // A tab leaves just before an event, and another replaces it.
        let open = self.two_are_open(&tabs).await;
        let closed = tabs.remove(open);
        self.browser.close(closed, &tabs[0]).await;
        self.shows(world, "a closed tab").await;
        self.wait_for_state(&tabs, OPEN).await;
        tabs
    }

    /// Waits until two of three tabs have a stream and one was refused. Returns one that has one.
    async fn two_are_open(&self, tabs: &[Tab]) -> usize {
        eventually(async || {
            let mut states = Vec::new();
            for tab in tabs {
                states.push(self.browser.state(tab).await);
            }
            let count = |state| states.iter().filter(|seen| **seen == state).count();
            match states.iter().rposition(|state| *state == OPEN) {
                Some(open) if count(OPEN) == 2 && count(CLOSED) == 1 => Ok(open),
                _ => Err(format!("{states:?}")),
            }
        })
        .await
    }

    pub(super) async fn reloads_all(&mut self, world: &World, tabs: &[Tab]) {
        for tab in tabs {
            self.browser.reload(tab).await;
        }
        self.shows(world, "reloaded tabs").await;
        self.wait_for_state(tabs, OPEN).await;
    }

    /// No stream at all is open when the event is written; after a kill, the tabs have received the proxy's own answer before.
    pub(super) async fn is_without_a_daemon(
        &mut self,
        world: &mut World,
        tabs: &[Tab],
        signal: &str,
    ) {
        world.daemon.signal(signal);
        world.daemon.wait();
        let away = format!("{signal}: daemon away");
        self.notify(world, &away).await;
        if signal == "KILL" {
            self.browser.wait_for_answer(&tabs[0]).await;
        }
        world.daemon = world.another_daemon("");
        let back = format!("{signal}: daemon back");
        self.shows(world, &back).await;
        self.wait_for_state(tabs, OPEN).await;
    }

    /// No later event is shown, and no earlier one again.
    pub(super) async fn signs_out(self, world: &World, tabs: &[Tab]) {
        world.icinga.sign_out(&self.session_id).await;
        self.wait_for_state(tabs, CLOSED).await;
        world.incident(self.contact, "signed out").await;
        assert_same(self.browser.popups().await, &self.expected);
        // Firefox removes its own.
        if !self.browser.user_agent.contains("Firefox") {
            let on_desktop = self.browser.on_desktop().await;
            assert_eq!(on_desktop, self.expected.len() as u64);
        }
    }

    /// Returns how often each event was shown, and asserts that each was shown once, and that the worker has lived all the
    /// time.
    pub(super) async fn reports(&self) {
        let shown = self.browser.popups().await;
        let mut times = [0; 3];
        for object in &self.expected {
            let count = shown.iter().filter(|title| *title == object).count();
            times[count.min(2)] += 1;
        }
        let [lost, once, doubled] = times;
        let (events, starts) = (self.expected.len(), self.browser.starts().await);
        eprintln!(
            "{}: {events} events, {once} shown once, {lost} lost, {doubled} doubled; {starts} starts of the worker",
            std::thread::current().name().unwrap_or_default()
        );
        assert_same(shown, &self.expected);
        // Its streams would be cut with it.
        assert_eq!(starts, 1, "the browser has ended the worker");
    }
}
