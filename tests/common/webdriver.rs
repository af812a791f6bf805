//! A real browser, headless, controlled over WebDriver: the part that is the same for all browsers.

use std::path::Path;

use fantoccini::elements::Element;
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::Value;

use super::guarded::Guarded;
use super::wait::eventually;

/// A browser with its own profile. It and all its processes end when this is dropped or the test's process ends.
pub(crate) struct Browser {
    _driver: Guarded,
    client: Client,
    /// Its user agent.
    pub(crate) user_agent: String,
}

/// A tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tab(WindowHandle);

/// The state of a tab that another tab reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Seen {
    /// Whether it is hidden.
    pub(crate) hidden: bool,
    /// The state of its EventSource.
    pub(crate) state: u64,
    /// How often it was accepted, by any bridge.
    pub(crate) answers: u64,
}

impl Seen {
    pub(crate) fn is_hidden_and_alive(&self) -> bool {
        self.hidden && self.state != 2
    }
}

/// Returns the titles of all notifications of the worker.
const SHOWN: &str = "const shown = await (await caches.open('shown')).matchAll();
    done(await Promise.all(shown.map((answer) => answer.text())))";

/// Asserts that these popups were shown, each as often as it is expected. Not in order: the worker notes a title once the desktop
/// has answered, and two that come together may be answered in either order.
pub(crate) fn assert_same(mut shown: Vec<String>, expected: &[String]) {
    let mut expected = expected.to_vec();
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);
}

impl Browser {
    /// Starts a browser's driver, which serves at `address`, and the browser. Their files are in `directory`.
    pub(crate) async fn start(
        directory: &Path,
        driver: &[&str],
        address: &str,
        capabilities: Value,
    ) -> Self {
        let Value::Object(capabilities) = capabilities else {
            panic!("no object: {capabilities}")
        };
        // A process namespace ends as a whole, however the driver ends.
        let mut command = vec!["unshare", "--pid", "--fork", "--mount-proc"];
        command.extend(driver);
        let driver = Guarded::run(directory, &command, address);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{address}"))
            .await
            .expect("the browser starts");
        let user_agent = client
            .execute("return navigator.userAgent", vec![])
            .await
            .expect("a script runs");
        Self {
            _driver: driver,
            client,
            user_agent: user_agent.as_str().expect("a text").to_owned(),
        }
    }

    /// Gives the first tab to a signed-in user: it has the session's cookie, and shows `url`.
    pub(crate) async fn sign_in(&self, url: &str, session_id: &str) -> Tab {
        // Cookies can only be set for the page that is shown. This one is not Icinga Web's.
        self.goto(&format!("{url}worker.js")).await;
        let cookie = format!("Icingaweb2={session_id}; path=/icingaweb2/");
        self.run(&format!("done(document.cookie = '{cookie}')"))
            .await;
        self.goto(url).await;
        Tab(self.client.window().await.expect("a tab"))
    }

    /// Opens another tab at `url`.
    pub(crate) async fn open(&self, url: &str) -> Tab {
        let tab = self.client.new_window(true).await.expect("a tab");
        let tab = Tab(tab.handle);
        self.look_at(&tab).await;
        self.goto(url).await;
        tab
    }

    /// Waits until an element of the current page has a text that contains this.
    pub(crate) async fn wait_for_text(&self, selector: &str, part: &str) {
        let script = format!("return document.querySelector('{selector}')?.textContent");
        eventually(async || match self.ask(None, &script).await {
            Ok(Value::String(text)) if text.contains(part) => Ok(()),
            said => Err(format!("{selector} says {said:?}")),
        })
        .await;
    }

    /// Waits until a style of an element has this value.
    pub(crate) async fn wait_for_style(&self, selector: &str, style: &str, value: &str) {
        let script =
            format!("done(getComputedStyle(document.querySelector('{selector}')).{style})");
        self.run_until(&script, |is| is == value).await;
    }

    /// Closes a tab, and switches to another one.
    pub(crate) async fn close(&self, tab: Tab, then: &Tab) {
        self.look_at(&tab).await;
        self.client.close_window().await.expect("it closes");
        self.look_at(then).await;
    }

    pub(crate) async fn reload(&self, tab: &Tab) {
        self.look_at(tab).await;
        // As users do: the driver of Firefox bypasses the service worker, as with the shift key.
        self.run("window.left = true; setTimeout(() => location.reload()); done()")
            .await;
        eventually(async || {
            match self.ask(None, "return !window.left").await {
                Ok(Value::Bool(true)) => Ok(()),
                // Also if the page has gone meanwhile.
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the tab's EventSource is in that state: 0 connecting, 1 open, 2 closed.
    pub(crate) async fn wait_for_state(&self, tab: &Tab, state: u64) {
        self.look_at(tab).await;
        self.run_until("done(stream && stream.readyState)", |seen| {
            seen.as_u64() == Some(state)
        })
        .await;
    }

    /// The state of the tab's EventSource; 0 also without one.
    pub(crate) async fn state(&self, tab: &Tab) -> u64 {
        self.look_at(tab).await;
        let state = self.run("done(stream && stream.readyState)").await;
        state.as_u64().unwrap_or_default()
    }

    /// Waits until the tab has reconnected once more and was accepted, by any bridge.
    pub(crate) async fn wait_for_answer(&self, tab: &Tab) {
        self.look_at(tab).await;
        let before = self.run("done(answers)").await.as_u64();
        self.run_until("done(answers)", |answers| answers.as_u64() > before)
            .await;
    }

    /// The titles of all notifications that were shown.
    pub(crate) async fn popups(&self) -> Vec<String> {
        serde_json::from_value(self.run(SHOWN).await).expect("titles")
    }

    /// How often the worker was started.
    pub(crate) async fn starts(&self) -> u64 {
        let count = "done((await (await caches.open('starts')).keys()).length)";
        self.run(count).await.as_u64().expect("a number")
    }

    /// Waits until as many notifications were shown as there are `titles`, and compares.
    pub(crate) async fn wait_for_popups(&self, titles: &[String]) {
        let enough = |shown: &Value| {
            shown
                .as_array()
                .is_some_and(|shown| shown.len() >= titles.len())
        };
        let shown = self.run_until(SHOWN, enough).await;
        assert_same(serde_json::from_value(shown).expect("titles"), titles);
    }

    /// How many notifications are on the desktop. Only when none is on its way there: Chromium would forget it.
    pub(crate) async fn on_desktop(&self) -> u64 {
        let count = "const worker = await navigator.serviceWorker.ready;
            done((await worker.getNotifications()).length)";
        self.run(count).await.as_u64().expect("a number")
    }

    /// Opens a tab at the same site that is not Icinga Web's, and switches to it: all others are hidden from then on.
    pub(crate) async fn look_away(&self, url: &str) {
        // Outside the worker's scope.
        self.open(url.trim_end_matches('/')).await;
    }

    /// What `count` hidden tabs report.
    pub(crate) async fn ask_others(&self, count: usize) -> Vec<Seen> {
        let script = format!(
            "const tabs = new BroadcastChannel('tabs');
            const seen = [];
            tabs.onmessage = (answer) => {{ if (seen.push(answer.data) === {count}) done(seen) }};
            tabs.postMessage('report')"
        );
        serde_json::from_value(self.run(&script).await).expect("tabs")
    }

    /// Shows a page in the current tab.
    pub(crate) async fn show(&self, url: &str) {
        self.goto(url).await;
    }

    /// Clicks an element, as with the mouse.
    pub(crate) async fn click(&self, selector: &str) {
        self.find(selector).await.click().await.expect(selector);
    }

    /// Types keys while an element has the focus.
    pub(crate) async fn type_into(&self, selector: &str, keys: &str) {
        let element = self.find(selector).await;
        element.send_keys(keys).await.expect(selector);
    }

    /// What a script returns in the current page, or in a frame of it. Not an asynchronous script: it would never end if the page
    /// or the frame is reloaded before it has.
    ///
    /// # Errors
    ///
    /// While that is being reloaded, for example.
    pub(crate) async fn ask(&self, frame: Option<&str>, script: &str) -> Result<Value, String> {
        if let Some(frame) = frame {
            let element = self.find(frame).await;
            element.enter_frame().await.expect(frame);
        }
        let said = self.client.execute(script, vec![]).await;
        if frame.is_some() {
            (self.client.enter_parent_frame().await).expect("the page of the frame");
        }
        said.map_err(|error| format!("{script}: {error}"))
    }

    /// Takes a picture of a window of this size, as PNG.
    pub(crate) async fn picture(&self, width: u32, height: u32) -> Vec<u8> {
        let sized = self.client.set_window_size(width, height).await;
        sized.expect("a window");
        self.run("scrollTo(0, 0); done()").await;
        self.client.screenshot().await.expect("a picture")
    }

    async fn find(&self, selector: &str) -> Element {
        let found = self.client.find(Locator::Css(selector)).await;
        found.expect(selector)
    }

    async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page is there");
    }

    async fn look_at(&self, tab: &Tab) {
        let handle = tab.0.clone();
        self.client
            .switch_to_window(handle)
            .await
            .expect("the tab is there");
    }

    /// Runs a script again and again, until its result fits.
    async fn run_until(&self, script: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(async || {
            let said = self.run(script).await;
            if fits(&said) {
                Ok(said)
            } else {
                Err(format!("{script} says {said}"))
            }
        })
        .await
    }

    /// Runs a script in the current tab, until it calls `done`.
    async fn run(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; (async () => {{ {script} }})();");
        self.client
            .execute_async(&script, vec![])
            .await
            .expect("a script runs")
    }
}
