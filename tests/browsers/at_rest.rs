//! Streams without events, only with the daemon's keep-alives. The module's name puts its test among the first, because few
//! others take as long.

use std::time::Duration;

use crate::common::apache::Apache;
use crate::common::nginx::Nginx;
use crate::common::world::World;

/// Longer than any timeout of a stream in use: a proxy that reads (60 s in nginx's shipped file, 30 s in Apache's) or writes (60
/// s), nginx that keeps a connection (75 s), the daemon with a browser that vanished (one to two minutes, doc/security.md).
/// Shorter times in the configuration would prove nothing about these shipped ones, so the test takes this long; ten seconds
/// more, because the first stream of a browser soon ends to learn how late it returns.
const SILENCE: Duration = Duration::from_secs(131);

#[tokio::test]
async fn a_silence_of_two_minutes_costs_no_stream() {
    let world = World::behind_proxies("silence").await;
    let (nginx, apache) = (
        Nginx::shipped(),
        Apache::including("icinga-desktop-bridge.conf"),
    );
    let mut browsers = Vec::new();
    for site in nginx.sites().iter().chain(&apache.sites()) {
        browsers.push(world.browser(site).await);
    }
    tokio::time::sleep(SILENCE).await;
    world.next_is_new(&mut browsers).await;
    for browser in &browsers {
        // The first stream of each, to learn how late it returns.
        assert_eq!(browser.tab.ended, 1);
    }
}
