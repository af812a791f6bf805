//! A real Chromium, headless, driven over WebDriver.

use std::process::Command;

use fantoccini::wd::WindowHandle;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use serde_json::{Value, json};

use super::guarded::{Guarded, directory};
use super::postgres::free_port;
use super::tls::Certificate;
use super::wait::eventually;

/// A browser with a profile of its own. It and all its processes are gone when this is dropped or the test's process ends.
pub(crate) struct Chromium {
    _driver: Guarded,
    client: Client,
    /// What it calls itself.
    pub(crate) user_agent: String,
}

/// A tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tab(WindowHandle);

/// Without a sandbox because tests run as root; and quiet, because there is no network.
const ARGUMENTS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-crash-reporter",
];

/// Says the titles of what the worker has shown.
const SHOWN: &str = "const shown = await (await caches.open('shown')).matchAll();
    done(await Promise.all(shown.map((answer) => answer.text())))";

impl Chromium {
    /// Starts a browser that trusts `certificate` and lets every page show notifications.
    pub(crate) async fn start(certificate: &Certificate) -> Self {
        // The guardian could only say that nobody accepts.
        let found = Command::new("chromedriver").arg("--version").output();
        found.expect("chromedriver runs (apt-get install chromium chromium-driver)");
        let directory = directory();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let log = format!("--log-path={}", directory.join("log").display());
        let port = format!("--port={port}");
        let driver = Guarded::run(
            &directory,
            // A process namespace ends as a whole, however the driver ends.
            &[
                "unshare",
                "--pid",
                "--fork",
                "--mount-proc",
                "chromedriver",
                &port,
                &log,
            ],
            &address,
        );
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!(
            "--ignore-certificate-errors-spki-list={}",
            public_key_digest(certificate)
        ));
        let Value::Object(capabilities) = json!({
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": { "profile.default_content_setting_values.notifications": 1 },
            }
        }) else {
            unreachable!("it is written as an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{address}"))
            .await
            .expect("Chromium starts (apt-get install chromium chromium-driver)");
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
        // Cookies can be set for the page that is shown only. This one is none of Icinga Web's.
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

    /// Closes a tab, and looks at another one.
    pub(crate) async fn close(&self, tab: Tab, then: &Tab) {
        self.look_at(&tab).await;
        self.client.close_window().await.expect("it closes");
        self.look_at(then).await;
    }

    pub(crate) async fn reload(&self, tab: &Tab) {
        self.look_at(tab).await;
        self.client.refresh().await.expect("it reloads");
    }

    /// Waits until the tab's EventSource is in that state: 0 connecting, 1 open, 2 closed.
    pub(crate) async fn wait_for_state(&self, tab: &Tab, state: u64) {
        self.look_at(tab).await;
        self.run_until("done(stream && stream.readyState)", |seen| {
            seen.as_u64() == Some(state)
        })
        .await;
    }

    /// Waits until the tab has come back once more and was let in, by whomever.
    pub(crate) async fn wait_for_answer(&self, tab: &Tab) {
        self.look_at(tab).await;
        let before = self.run("done(answers)").await.as_u64();
        self.run_until("done(answers)", |answers| answers.as_u64() > before)
            .await;
    }

    /// The titles of all notifications that were shown, in order.
    pub(crate) async fn popups(&self) -> Vec<String> {
        serde_json::from_value(self.run(SHOWN).await).expect("titles")
    }

    /// Waits until as many notifications were shown as there are `titles`, and compares.
    pub(crate) async fn wait_for_popups(&self, titles: &[String]) {
        let enough = |shown: &Value| {
            shown
                .as_array()
                .is_some_and(|shown| shown.len() >= titles.len())
        };
        let shown = self.run_until(SHOWN, enough).await;
        assert_eq!(shown, json!(titles));
    }

    /// How many notifications are on the desktop. Only for when none is on its way there: Chromium would forget it.
    pub(crate) async fn on_desktop(&self) -> u64 {
        let count = "const worker = await navigator.serviceWorker.ready;
            done((await worker.getNotifications()).length)";
        self.run(count).await.as_u64().expect("a number")
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

    /// Runs a script again and again, until what it says fits.
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

    /// Runs a script in the tab that is looked at, until it calls `done`.
    async fn run(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; (async () => {{ {script} }})();");
        self.client
            .execute_async(&script, vec![])
            .await
            .expect("a script runs")
    }
}

/// How Chromium is told to trust a key that no authority vouches for.
fn public_key_digest(certificate: &Certificate) -> String {
    let pem = std::fs::read(&certificate.file).expect("a certificate");
    let key = X509::from_pem(&pem)
        .and_then(|certificate| certificate.public_key())
        .and_then(|key| key.public_key_to_der())
        .expect("a public key");
    let digest = openssl::hash::hash(MessageDigest::sha256(), &key).expect("OpenSSL");
    openssl::base64::encode_block(&digest)
}
