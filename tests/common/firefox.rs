//! A real Firefox.

use std::process::Command;

use serde_json::json;

use super::guarded::directory;
use super::postgres::free_port;
use super::webdriver::Browser;

/// Debian's path, which the driver does not try.
const PROGRAM: &str = "/usr/bin/firefox-esr";

/// Runs its arguments with a log, which the driver does not write by itself.
const LOGGED: &str = r#"log=$1; shift; exec "$@" > "$log" 2>&1"#;

/// Starts a browser that trusts every certificate and allows every page to show notifications.
pub(crate) async fn start() -> Browser {
    for (program, by) in [
        (PROGRAM, "apt-get install firefox-esr"),
        ("geckodriver", "cargo install geckodriver --locked"),
    ] {
        // The guardian could only report that nothing accepts.
        let found = Command::new(program).arg("--version").output();
        assert!(found.is_ok(), "{program} does not run ({by})");
    }
    let directory = directory();
    let port = free_port().to_string();
    let address = format!("127.0.0.1:{port}");
    let log = directory.join("log").display().to_string();
    let capabilities = json!({
        "acceptInsecureCerts": true,
        "moz:firefoxOptions": {
            "binary": PROGRAM,
            "args": ["-headless"],
            "prefs": {
                "permissions.default.desktop-notification": 1,
                // Without a desktop Firefox shows them in windows of its own.
                "alerts.useSystemBackend": false,
                // There is room for three that stay.
                "dom.webnotifications.requireinteraction.enabled": false,
                // Quiet, because there is no network.
                "network.captive-portal-service.enabled": false,
                "network.connectivity-service.enabled": false,
                "dom.push.connection.enabled": false,
            },
        }
    });
    let driver = [
        "sh",
        "-c",
        LOGGED,
        "sh",
        &log,
        "geckodriver",
        "--port",
        &port,
    ];
    Browser::start(&directory, &driver, &address, capabilities).await
}
