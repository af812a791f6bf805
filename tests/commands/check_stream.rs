//! `check --url`: what it reports about a stream through real proxies, set up well and badly.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::apache::Apache;
use crate::common::command::Said;
use crate::common::daemon::ConfigDir;
use crate::common::nginx::{Nginx, edited};
use crate::common::sse::AGENT;
use crate::common::world::{World, resource};

/// A signed-in browser.
struct Browser {
    contact: i64,
    session_id: String,
}

/// A running check.
struct Check {
    child: Child,
    session_id: String,
    _config: ConfigDir,
}

impl Drop for Check {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World {
    async fn browser(&self, name: &str) -> Browser {
        Browser {
            contact: self.icinga.contact(name).await,
            session_id: self.icinga.sign_in(name, AGENT).await,
        }
    }

    /// Starts a check that reads the session id from standard input.
    fn check(&self, url: &str, trusted: Option<&Path>, session_id: &str, more: &[&str]) -> Check {
        let config = ConfigDir::new("", &resource(&self.database, &self.role));
        let mut arguments = vec!["check", "--debug", "--url", url, "--cookie", "-"];
        arguments.extend(more);
        let mut command = config.command(&arguments);
        if let Some(file) = trusted {
            command.env("SSL_CERT_FILE", file);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        writeln!(child.stdin.take().expect("piped"), "{session_id}").expect("it reads");
        Check {
            child,
            session_id: session_id.to_owned(),
            _config: config,
        }
    }

    /// Runs such a check without TLS, which must fail with `problem` in its last line.
    fn fails(&self, url: &str, browser: &Browser, problem: &str) {
        self.check(url, None, &browser.session_id, &[])
            .fails(problem);
    }
}

impl Check {
    /// Waits for the end, and asserts that the session id appears nowhere.
    fn said(mut self) -> Said {
        // It ends by itself within three quarters of a minute.
        let errors = self.child.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || text(errors));
        let stdout = text(self.child.stdout.take().expect("piped"));
        let said = Said {
            code: self.child.wait().expect("it ends").code(),
            stdout,
            stderr: errors.join().expect("no panic"),
        };
        assert!(!said.to_string().contains(&self.session_id), "{said}");
        said
    }

    fn fails(self, problem: &str) {
        let said = self.said();
        let last = said.stdout.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("FAIL  ") && last.contains(problem),
            "{problem}: {said}"
        );
        assert_eq!(said.code, Some(1), "{said}");
    }

    fn content(self) -> Said {
        let said = self.said();
        for line in [
            "ok    sign-in: of contact ",
            "ok    proxy: localhost port ",
            "ok    answer: an event stream\n",
            "ok    first bytes: at once, after ",
            "the daemon writes a comment after 15s without an event: waiting for it\n",
            "ok    silence: a comment after ",
            // The first stream of a browser is renewed soon.
            "ok    return: the daemon ended the stream, and the check reconnected as asked: ",
        ] {
            assert!(said.stdout.contains(line), "{line}: {said}");
        }
        assert_eq!(said.code, Some(0), "{said}");
        said
    }
}

/// The output about a stream until its end.
fn text(mut stream: impl std::io::Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

#[tokio::test]
async fn it_sees_whether_a_stream_is_whole_buffered_or_cut() {
    let world = World::behind_proxies("whole").await;
    let nginx = Nginx::shipped();
    let apache = Apache::including("icinga-desktop-bridge.conf");
    let buffering = Nginx::with(
        "",
        &edited(
            "proxy_buffering off;",
            "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
        ),
    );
    let cutting = Nginx::with(
        "",
        &edited("proxy_read_timeout 60s;", "proxy_read_timeout 5s;"),
    );
    let browsers = [
        world.browser("a").await,
        world.browser("b").await,
        world.browser("c").await,
        world.browser("d").await,
    ];
    let check = |n: usize, proxy: String, trusted| {
        let url = format!("{proxy}/icingaweb2/");
        world.check(&url, trusted, &browsers[n].session_id, &[])
    };
    let tls = |address: &str| format!("https://{}", address.replace("127.0.0.1", "localhost"));
    // All at once: they take 15 seconds.
    let good_nginx = check(0, tls(&nginx.tls_address), Some(&*nginx.certificate.file));
    let good_apache = check(1, tls(&apache.tls_address), Some(&*apache.certificate.file));
    let buffered = check(2, format!("http://{}", buffering.address), None);
    let cut = check(3, format!("http://{}", cutting.address), None);
    // Not silently: the check receives it instead of another tab.
    let opened = format!("stream opened for contact {},", browsers[1].contact);
    world.daemon.wait_for_log(&opened);
    world.incident(browsers[1].contact, "taken").await;

    buffered.fails("nginx needs proxy_buffering off");
    cut.fails("the stream was cut after 5.");
    let said = good_nginx.content();
    assert!(
        said.stdout.contains(", TLSv1.") && said.stdout.contains(", valid certificate"),
        "{said}"
    );
    assert!(!said.stdout.contains("note"), "{said}");
    let said = good_apache.content();
    assert!(
        said.stdout
            .contains("note  events that this check received instead of a tab of the browser: 1;"),
        "{said}"
    );
    assert!(!said.stdout.contains("taken"), "{said}");
}

/// The URL of a path behind a proxy.
fn at(nginx: &Nginx, path: &str) -> String {
    format!("http://{}{path}", nginx.address)
}

#[tokio::test]
async fn a_url_where_no_stream_is_fails_with_what_is_there() {
    let world = World::behind_proxies("no_stream").await;
    let shipped = std::fs::read_to_string("packaging/nginx/icinga-desktop-bridge.conf").unwrap();
    let more = "location /nothing { return 404; } location /moved { return 301 https://elsewhere.example/; }";
    let nginx = Nginx::with("", &format!("{shipped}\n{more}\n"));
    let wrong_version = Nginx::with("", &edited("-Version $1;", "-Version v$1;"));
    let alice = world.browser("alice").await;
    let tls_port = nginx.tls_address.rsplit(':').next().unwrap();
    for (url, problem) in [
        (
            at(&nginx, "/icinga"),
            "a page (text/html) instead of an event stream",
        ),
        (at(&nginx, "/nothing"), "status 404: not found"),
        (
            at(&nginx, "/moved"),
            "redirected to https://elsewhere.example/",
        ),
        (
            at(&wrong_version, "/icingaweb2"),
            "status 400: the daemon does not support that version",
        ),
        (
            "http://127.0.0.1:1".to_owned(),
            "cannot connect to 127.0.0.1 port 1",
        ),
        (
            format!("https://localhost:{tls_port}"),
            "self-signed certificate; the certificate must be valid",
        ),
    ] {
        world.fails(&url, &alice, problem);
    }
}

#[tokio::test]
async fn a_sign_in_that_is_not_let_in_fails_with_its_reason() {
    let world = World::behind_proxies("not_let_in").await;
    let nginx = Nginx::shipped();
    let good = at(&nginx, "/icingaweb2");
    for (session_id, problem) in [
        ("abcdefghijklmnopqrstuvwxyz", "unknown session"),
        ("no session id", "malformed"),
    ] {
        let browser = Browser {
            contact: 0,
            session_id: session_id.to_owned(),
        };
        world.fails(&good, &browser, problem);
    }
    let alice = world.browser("alice").await;
    let other_agent = ["--user-agent", "Other/1.0"];
    world
        .check(&good, None, &alice.session_id, &other_agent)
        .fails("omit --user-agent");
}

#[tokio::test]
async fn a_browser_that_has_its_two_streams_is_checked_all_the_same() {
    let world = World::behind_proxies("third").await;
    let nginx = Nginx::shipped();
    let alice = world.browser("alice").await;
    // The check takes a place of these, which reconnect.
    let _tabs = [
        world.open(&alice.session_id).await,
        world.open(&alice.session_id).await,
    ];
    let check = world.check(&at(&nginx, "/icingaweb2"), None, &alice.session_id, &[]);
    let said = check.said();
    assert_eq!(said.code, Some(0), "{said}");
}

#[tokio::test]
async fn a_daemon_that_is_down_is_named_whatever_the_proxy_answers_for_it() {
    let mut world = World::behind_proxies("down").await;
    let nginx = Nginx::shipped();
    let unforgiving = Nginx::with(
        "",
        &edited(
            "error_page 502 503 504 =200 @icinga_desktop_bridge_away;",
            "",
        ),
    );
    let alice = world.browser("alice").await;
    world.daemon.signal("TERM");
    world.daemon.wait();
    for (proxy, problem) in [
        (
            &nginx,
            "the proxy cannot reach the daemon: check that it runs",
        ),
        (
            &unforgiving,
            "status 502: the proxy cannot reach the daemon",
        ),
    ] {
        world.fails(&at(proxy, "/icingaweb2"), &alice, problem);
    }
}

#[test]
fn its_flags_come_together_and_are_read_closely() {
    let config = ConfigDir::new("", "");
    for arguments in [
        &["check", "--url", "https://a.example/"][..],
        &["check", "--cookie", "x"],
        &["check", "--user-agent", "x"],
        &[
            "check",
            "--config-only",
            "--url",
            "https://a.example/",
            "--cookie",
            "x",
        ],
        &["check", "--url", "a.example/icingaweb2", "--cookie", "x"],
    ] {
        let said = Said::with(&config, arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}");
    }
    let help = Said::with(&config, &["check", "--help"]).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["standard input", "two places", "SSL_CERT_FILE"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
