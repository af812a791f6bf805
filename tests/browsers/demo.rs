//! The demo as a visitor uses it: `sh packaging/demo.sh` in a terminal, and the page in a real browser. What it shows is compared
//! with what was clicked, through all trouble that it can make.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::common::guardian::Guardian;
use crate::common::network::enter_private_network;
use crate::common::tls::Certificate;
use crate::common::wait::eventually_within;
use crate::common::webdriver::Browser;
use crate::common::{chromium, firefox};

/// Runs the demo in a terminal until standard input closes, and then ends it. Not with the signal of a closing window, which may
/// be ignored when the tests run.
const IN_A_TERMINAL: &str = r#"
    script --quiet --flush --command "exec sh packaging/demo.sh" "$1" < /dev/null > /dev/null &
    cat > /dev/null
    kill -TERM $(cat "/proc/$!/task/$!/children")
    wait
"#;

/// The same, for the demo as text.
const AS_TEXT: &str = r#"
    sh packaging/demo.sh --text > "$1" 2>&1 &
    cat > /dev/null
    kill -TERM $!
    wait
"#;

/// A running demo.
struct Demo {
    guardian: Guardian,
    _files: TempDir,
    log: PathBuf,
}

impl Demo {
    /// Starts the demo with the binaries that this test was built with.
    fn start(script: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = Command::new("cargo")
            .args(["build", "--locked", "--bins", "--example", "demo"])
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(built.success());
        let daemon = Path::new(env!("CARGO_BIN_EXE_icinga-desktop-bridge"));
        let files = tempfile::tempdir().expect("a temporary directory");
        let log = files.path().join("log");
        let guardian = Guardian::start(script, |shell| {
            shell
                .arg(&log)
                .current_dir(root)
                .env("DEMO_BUILT", daemon.parent().expect("a directory"))
                // No browser must open.
                .env_remove("DISPLAY")
                .env_remove("WAYLAND_DISPLAY");
        });
        Self {
            guardian,
            _files: files,
            log,
        }
    }

    /// Waits until its output has `text`, and returns the word after it.
    async fn says(&self, text: &str) -> String {
        eventually_within(TIMEOUT, async || {
            let said = std::fs::read(&self.log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let behind = said.split_once(text).map(|(_, behind)| behind);
            // The line is complete.
            let line = behind.and_then(|behind| behind.split_once('\n'));
            let word = line.map(|(line, _)| line.trim_start());
            let end = |c: char| c.is_whitespace() || c.is_control();
            word.and_then(|word| word.split(end).next())
                .map(str::to_owned)
                .ok_or_else(|| format!("no {text:?} in:\n{said}"))
        })
        .await
    }

    /// Ends it, and looks for what it has left behind.
    async fn ends_without_a_trace(self) {
        let directory = self.says("Starting a private PostgreSQL in ").await;
        assert!(Path::new(&directory).is_dir(), "{directory}");
        assert_ne!(processes_of(&directory), Vec::<String>::new());
        drop(self.guardian);
        assert_eq!(processes_of(&directory), Vec::<String>::new());
        assert!(!Path::new(&directory).exists(), "{directory} is left");
    }
}

/// The command lines that contain `text`.
fn processes_of(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    processes
        .filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// How long the page may take: each trouble lasts up to ten seconds, and the browser and PostgreSQL return after it.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The key, as WebDriver names it.
const ENTER: &str = "\u{e007}";

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// The page in a browser, and what each user's desktop must show, oldest first.
struct Page {
    browser: Browser,
    expected: [Vec<String>; 3],
    /// How many popups there must be, including those of reloaded pages.
    count: usize,
}

impl Page {
    async fn of(demo: &Demo, browser: Browser) -> Self {
        let address = demo.says("The demo is at ").await;
        browser.show(&address).await;
        let page = Self {
            browser,
            expected: Default::default(),
            count: 0,
        };
        page.says("body", "dataset.ready", "true").await;
        for user in USERS {
            page.desktop_is(user, "open").await;
        }
        page
    }

    /// Waits until a property of an element of the page has this value.
    async fn says(&self, selector: &str, property: &str, value: &str) {
        let script = format!("return String(document.querySelector('{selector}').{property})");
        eventually_within(TIMEOUT, async || {
            let said = self.browser.ask(None, &script).await?;
            if said == value {
                Ok(())
            } else {
                Err(format!("{selector}: {said} and not {value}"))
            }
        })
        .await;
    }

    /// Waits until a user's stream is in that state.
    async fn desktop_is(&self, user: &str, state: &str) {
        eventually_within(TIMEOUT, async || {
            let script = "return document.body.dataset.state";
            let is = self.browser.ask(Some(&frame(user)), script).await?;
            if is == state {
                Ok(())
            } else {
                Err(format!("{user}'s desktop is {is} and not {state}"))
            }
        })
        .await;
    }

    async fn click(&self, name: &str) {
        let button = format!("[data-click={name}]");
        self.browser.click(&button).await;
    }

    /// What must be shown next about an object to these users.
    fn expect(&mut self, object: &str, users: &[&str]) {
        for (user, expected) in USERS.iter().zip(&mut self.expected) {
            if users.contains(user) {
                expected.push(object.to_owned());
                self.count += 1;
            }
        }
    }

    /// Clicks, and waits until everything that must be shown is there, once and in order, and nothing else, and all of it is
    /// acknowledged.
    async fn shows(&mut self, click: &str, object: &str, users: &[&str]) {
        self.expect(object, users);
        self.click(click).await;
        self.shows_all().await;
    }

    async fn shows_all(&self) {
        for (user, expected) in USERS.iter().zip(&self.expected) {
            self.desktop_shows(user, expected).await;
        }
        for id in ["#written", "#shown", "#acknowledged"] {
            self.says(id, "textContent", &self.count.to_string()).await;
        }
        for id in ["#waiting", "#folded", "#twice"] {
            self.says(id, "textContent", "0").await;
        }
    }

    async fn desktop_shows(&self, user: &str, expected: &[String]) {
        let titles = "return [...document.querySelectorAll('li strong')].map((title) => title.textContent).reverse()";
        let shown = eventually_within(TIMEOUT, async || {
            let shown = self.browser.ask(Some(&frame(user)), titles).await?;
            let count = shown.as_array().map_or(0, Vec::len);
            if count >= expected.len() {
                Ok(shown)
            } else {
                Err(format!("{user} was shown {count} of {}", expected.len()))
            }
        })
        .await;
        assert_eq!(shown, json!(expected), "{user}");
    }

    /// Each click reaches the desktops of the notified users, and no others.
    async fn notifies_whom_it_says(&mut self) {
        // With the keyboard as with the mouse; first, because popups take the focus from Firefox without a desktop.
        self.expect("db1!disk", &["alice", "bob"]);
        self.browser.type_into("[data-click=db1]", ENTER).await;
        self.shows_all().await;
        // If the browser may show popups: one for each card.
        self.says("body", "dataset.onDesktop", "2").await;
        self.shows("web1", "web1!http", &["bob"]).await;
        self.shows("mail1", "mail1!queue", &["carol"]).await;
    }

    /// Muted, the object is silent.
    async fn mutes(&mut self) {
        self.shows("mute", "db1!disk", &["alice", "bob"]).await;
        self.says("#mute", "textContent", "Unmute db1").await;
        self.click("db1").await;
        // Clicks are handled one after the other: this one arrived in between.
        self.shows("web1", "web1!http", &["bob"]).await;
        self.shows("mute", "db1!disk", &["alice", "bob"]).await;
    }

    /// What is notified before, during and after a trouble is shown once. `state` names the trouble in the strip.
    async fn survives(&mut self, trouble: &str, state: &str) {
        self.shows("db1", "db1!disk", &["alice", "bob"]).await;
        self.click(trouble).await;
        self.says(state, "dataset.troubles", "1").await;
        self.shows("db1", "db1!disk", &["alice", "bob"]).await;
        self.says(state, "dataset.up", "true").await;
        self.shows("db1", "db1!disk", &["alice", "bob"]).await;
        for user in USERS {
            self.desktop_is(user, "open").await;
        }
    }

    /// A storm arrives completely. It is the last story, because a browser that is slow on this machine is shown a summary.
    async fn storms(&mut self) {
        for host in 1..=200 {
            self.expect(&format!("host{host}!ping"), &USERS);
        }
        self.click("storm").await;
        for id in ["#written", "#acknowledged"] {
            self.says(id, "textContent", &self.count.to_string()).await;
        }
        self.says("#waiting", "textContent", "0").await;
        let folded = "return document.querySelector('#folded').textContent";
        let folded = self.browser.ask(None, folded).await.expect("a number");
        if folded == "0" {
            self.shows_all().await;
        } else {
            eprintln!("the browser was held up: {folded} of 600 were summed up");
        }
    }

    /// Makes the picture of the README, if the file is named.
    async fn is_pictured(&self) {
        if let Some(file) = std::env::var_os("DEMO_PICTURE") {
            let picture = self.browser.picture(1280, 1080).await;
            std::fs::write(file, picture).expect("the picture");
        }
    }

    /// Everything that is in trouble recovers, and the notified users are notified again.
    async fn recovers(&mut self) {
        for (object, users) in [
            ("db1!disk", &["alice", "bob"][..]),
            ("web1!http", &["bob"]),
            ("mail1!queue", &["carol"]),
        ] {
            self.expect(object, users);
        }
        self.click("recover").await;
        self.shows_all().await;
    }

    /// The end of a sign-in ends the stream, and after a new sign-in later events are shown.
    async fn signs_out(&mut self, click: &str, user: &str, other: &str) {
        self.click(click).await;
        self.desktop_is(user, "closed").await;
        self.shows("db1", "db1!disk", &[other]).await;
        let again = "document.getElementById('sign-in').click()";
        let clicked = self.browser.ask(Some(&frame(user)), again).await;
        clicked.expect("a click");
        self.desktop_is(user, "open").await;
        // Its new page is empty.
        let place = USERS.iter().position(|name| *name == user).expect(user);
        self.expected[place].clear();
        self.shows("db1", "db1!disk", &["alice", "bob"]).await;
    }
}

/// Everything that a visitor can do, one after the other.
async fn nothing_is_lost_and_nothing_comes_twice(browser: Browser) {
    let demo = Demo::start(IN_A_TERMINAL);
    let mut page = Page::of(&demo, browser).await;
    page.notifies_whom_it_says().await;
    page.survives("kill-daemon", "#daemon").await;
    page.survives("stop-postgresql", "#postgres").await;
    page.survives("cut-network", "#network").await;
    page.mutes().await;
    page.is_pictured().await;
    page.signs_out("sign-out-alice", "alice", "bob").await;
    page.signs_out("rename-bob", "bob", "alice").await;
    page.recovers().await;
    page.storms().await;
    drop(page);
    demo.ends_without_a_trace().await;
}

#[tokio::test]
async fn in_chromium_nothing_is_lost_and_nothing_comes_twice() {
    enter_private_network(&[]);
    let files = tempfile::tempdir().expect("a temporary directory");
    let certificate = Certificate::new(files.path());
    nothing_is_lost_and_nothing_comes_twice(chromium::start(&certificate).await).await;
}

#[tokio::test]
async fn in_firefox_nothing_is_lost_and_nothing_comes_twice() {
    enter_private_network(&[]);
    nothing_is_lost_and_nothing_comes_twice(firefox::start().await).await;
}

#[tokio::test]
async fn as_a_text_it_shows_the_streams() {
    let demo = Demo::start(AS_TEXT);
    for user in ["alice", "bob"] {
        demo.says(&format!("  [{user}] data: {{")).await;
    }
    demo.ends_without_a_trace().await;
}

fn frame(user: &str) -> String {
    format!("iframe[title^={user}]")
}
