//! The status page in real browsers: it follows the daemon, and shows when its data is old.

use crate::common::admin::monitored;
use crate::common::daemon::{ConfigDir, Daemon};
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, free_port};
use crate::common::tls::Certificate;
use crate::common::webdriver::Browser;
use crate::common::world::{installed, resource};
use crate::common::{chromium, firefox};

async fn follows_the_daemon(hint: &str, browser: Browser) {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, hint, Shape::V1_0);
    let admin = format!("127.0.0.1:{}", free_port());
    let keys = format!("host = 127.0.0.1\nport = 0\nadmin = {admin}");
    let start = || Daemon::launch(ConfigDir::new(&keys, &resource(&database, &role)));
    let daemon = start();
    daemon.wait_for_log("ready: ");
    browser.open(&format!("http://{admin}/")).await;
    // The page's policy allows its script, its stream and its style.
    browser.wait_for_text("#age", "live").await;
    browser.wait_for_text("#state h2", "Everything works").await;
    browser.wait_for_style("#tiles", "display", "grid").await;
    cluster.stop();
    browser
        .wait_for_text("#state h2", "Something is wrong")
        .await;
    browser.wait_for_text("title", "Something is wrong").await;
    browser
        .wait_for_text("#tiles", "listener down, query down, sign-in down")
        .await;
    cluster.start();
    browser.wait_for_text("#state h2", "Everything works").await;
    // A killed daemon sends nothing: the page detects that.
    drop(daemon);
    browser.wait_for_text("#age", "No answer since").await;
    let _daemon = start();
    browser.wait_for_text("#age", "live").await;
}

#[tokio::test]
async fn the_status_page_follows_the_daemon_in_chromium() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let browser = chromium::start(&Certificate::new(directory.path())).await;
    follows_the_daemon("status_chromium", browser).await;
}

#[tokio::test]
async fn the_status_page_follows_the_daemon_in_firefox() {
    follows_the_daemon("status_firefox", firefox::start().await).await;
}

#[tokio::test]
async fn without_scripts_the_status_page_is_loaded_anew_again_and_again() {
    let cluster = Cluster::private();
    let (_world, admin) = monitored(&cluster, "status_scriptless").await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let certificate = Certificate::new(directory.path());
    let browser = chromium::start_without_scripts(&certificate).await;
    browser.open(&format!("http://{admin}/")).await;
    browser
        .wait_for_text("#age", "reloaded every 5 seconds")
        .await;
    browser.wait_for_text("#state h2", "Everything works").await;
    cluster.stop();
    browser
        .wait_for_text("#state h2", "Something is wrong")
        .await;
}
