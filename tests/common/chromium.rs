//! A real Chromium.

use std::process::Command;

use openssl::hash::MessageDigest;
use openssl::x509::X509;
use serde_json::json;

use super::guarded::directory;
use super::postgres::free_port;
use super::tls::Certificate;
use super::webdriver::Browser;

/// Without a sandbox because tests run as root; and quiet, because there is no network.
const ARGUMENTS: [&str; 11] = [
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
    // The timers of hidden tabs run once a minute at once, and not only after five minutes.
    "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1",
];

/// Starts a browser that trusts `certificate` and allows every page to show notifications.
pub(crate) async fn start(certificate: &Certificate) -> Browser {
    start_with(certificate, &[]).await
}

/// The same, whose pages run no scripts.
pub(crate) async fn start_without_scripts(certificate: &Certificate) -> Browser {
    // As the administrator of an organization may forbid them.
    let forbidden = "profile.managed_default_content_settings.javascript";
    start_with(certificate, &[forbidden]).await
}

/// With these settings for content forbidden.
async fn start_with(certificate: &Certificate, forbidden: &[&str]) -> Browser {
    let mut preferences = json!({ "profile.default_content_setting_values.notifications": 1 });
    for setting in forbidden {
        preferences[setting] = json!(2);
    }
    // The guardian could only report that nothing accepts.
    let found = Command::new("chromedriver").arg("--version").output();
    found.expect("chromedriver runs (apt-get install chromium chromium-driver)");
    let directory = directory();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let log = format!("--log-path={}", directory.join("log").display());
    let port = format!("--port={port}");
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!(
        "--ignore-certificate-errors-spki-list={}",
        public_key_digest(certificate)
    ));
    let capabilities = json!({
        "goog:chromeOptions": {
            "args": arguments,
            // Disables the driver's own flags: hidden tabs are as slow as for users.
            "excludeSwitches": [
                "disable-background-timer-throttling",
                "disable-renderer-backgrounding",
                "disable-backgrounding-occluded-windows",
            ],
            "prefs": preferences,
        }
    });
    let driver = ["chromedriver", &port, &log];
    Browser::start(&directory, &driver, &address, capabilities).await
}

/// Chromium's option to trust a key that no authority has signed.
fn public_key_digest(certificate: &Certificate) -> String {
    let pem = std::fs::read(&certificate.file).expect("a certificate");
    let key = X509::from_pem(&pem)
        .and_then(|certificate| certificate.public_key())
        .and_then(|key| key.public_key_to_der())
        .expect("a public key");
    let digest = openssl::hash::hash(MessageDigest::sha256(), &key).expect("OpenSSL");
    openssl::base64::encode_block(&digest)
}
