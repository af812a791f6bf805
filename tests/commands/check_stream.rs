//! `check --url`: what it says of a stream through real proxies, well and badly set up.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::apache::Apache;
use crate::common::daemon::ConfigDir;
use crate::common::nginx::{Nginx, edited};
use crate::common::sse::AGENT;
use crate::common::world::{World, resource};

/// A signed-in browser.
struct Browser {
    contact: i64,
    session_id: String,
}

/// A check that is under way.
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

/// What a check said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
}

impl World {
    async fn browser(&self, name: &str) -> Browser {
        Browser {
            contact: self.icinga.contact(name).await,
            session_id: self.icinga.sign_in(name, AGENT).await,
        }
    }

    /// Starts a check that gets the session id over standard input.
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
    /// Waits for the end, and sees that the session id is nowhere.
    fn said(mut self) -> Said {
        // It is over within half a minute by itself.
        let mut streams = (self.child.stdout.take(), self.child.stderr.take());
        let read = |stream: &mut dyn std::io::Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("text");
            text
        };
        let errors = streams.1.take().expect("piped");
        let errors = std::thread::spawn(move || read(&mut { errors }));
        let text = read(streams.0.as_mut().expect("piped"));
        let errors = errors.join().expect("no panic");
        for output in [&text, &errors] {
            assert!(!output.contains(&self.session_id), "{output}");
        }
        Said {
            code: self.child.wait().expect("it ends").code(),
            text,
        }
    }

    fn fails(self, problem: &str) {
        let said = self.said();
        let last = said.text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("FAIL  ") && last.contains(problem),
            "{problem}: {said:?}"
        );
        assert_eq!(said.code, Some(1), "{said:?}");
    }

    fn content(self) -> Said {
        let said = self.said();
        for line in [
            "ok    sign-in: of contact ",
            "ok    proxy: localhost port ",
            "ok    answer: an event stream\n",
            "ok    first bytes: at once, after ",
            "the daemon breaks a silence after 15s: waiting for that\n",
            "ok    silence: broken after ",
        ] {
            assert!(said.text.contains(line), "{line}: {said:?}");
        }
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    }
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
    // Not silently: the check takes it from whoever would have got it.
    let opened = format!("stream opened for contact {},", browsers[1].contact);
    world.daemon.wait_for_log(&opened);
    world.incident(browsers[1].contact, "taken").await;

    buffered.fails("held back");
    cut.fails("the stream was cut after 5.");
    let said = good_nginx.content();
    assert!(
        said.text.contains(", TLSv1.") && said.text.contains(", valid certificate"),
        "{said:?}"
    );
    assert!(!said.text.contains("note"), "{said:?}");
    let said = good_apache.content();
    assert!(
        said.text
            .contains("note  events that came to this check in place of a tab of the browser: 1;"),
        "{said:?}"
    );
    assert!(!said.text.contains("taken"), "{said:?}");
}

#[tokio::test]
async fn it_says_why_there_is_no_stream() {
    let mut world = World::behind_proxies("none").await;
    let nginx = Nginx::with(
        "",
        &format!(
            "{}\nlocation /nothing {{ return 404; }} location /moved {{ return 301 https://elsewhere.example/; }}\n",
            std::fs::read_to_string("packaging/nginx/icinga-desktop-bridge.conf").unwrap()
        ),
    );
    let wrong_version = Nginx::with("", &edited("-Version $1;", "-Version v$1;"));
    let unforgiving = Nginx::with(
        "",
        &edited(
            "error_page 502 503 504 =200 @icinga_desktop_bridge_away;",
            "",
        ),
    );
    let alice = world.browser("alice").await;
    let at = |nginx: &Nginx, base: &str| format!("http://{}{base}", nginx.address);
    let good = at(&nginx, "/icingaweb2");

    world.fails(
        &at(&nginx, "/icinga"),
        &alice,
        "a page (text/html), not an event stream",
    );
    world.fails(&at(&nginx, "/nothing"), &alice, "status 404: nothing there");
    world.fails(
        &at(&nginx, "/moved"),
        &alice,
        "redirected to https://elsewhere.example/",
    );
    world.fails(
        &at(&wrong_version, "/icingaweb2"),
        &alice,
        "status 400: the daemon does not speak that version",
    );
    world.fails(
        "http://127.0.0.1:1",
        &alice,
        "cannot connect to 127.0.0.1 port 1",
    );
    world.fails(
        &format!(
            "https://localhost:{}",
            nginx.tls_address.rsplit(':').next().unwrap()
        ),
        &alice,
        "self-signed certificate; the certificate has to be valid",
    );
    let nobody = Browser {
        contact: 0,
        session_id: "abcdefghijklmnopqrstuvwxyz".to_owned(),
    };
    world.fails(&good, &nobody, "unknown session");
    let malformed = Browser {
        contact: 0,
        session_id: "no session id".to_owned(),
    };
    world.fails(&good, &malformed, "malformed");
    world
        .check(
            &good,
            None,
            &alice.session_id,
            &["--user-agent", "Other/1.0"],
        )
        .fails("leave --user-agent out");

    // Both places are taken.
    let (first, second) = (
        world.subscribe(&alice.session_id).await,
        world.subscribe(&alice.session_id).await,
    );
    world.fails(&good, &alice, "status 204: not let in");
    drop((first, second));

    world.daemon.signal("TERM");
    world.daemon.wait();
    world.fails(
        &good,
        &alice,
        "the proxy does not reach the daemon: see that it runs",
    );
    world.fails(
        &at(&unforgiving, "/icingaweb2"),
        &alice,
        "status 502: the proxy does not reach the daemon",
    );
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
        let output = config.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = config.command(&["check", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["standard input", "two places", "SSL_CERT_FILE"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
