//! Streams on which nothing happens but the daemon's keep-alives. The module's name puts its test among the first, because
//! few others take as long.

use std::time::Duration;

use crate::common::apache::Apache;
use crate::common::nginx::Nginx;
use crate::common::world::World;

/// Longer than any time after which somebody might give a stream up that is in use: a proxy reading (60 s in nginx's shipped
/// file, 30 s in Apache's) or writing (60 s), nginx keeping a connection (75 s), the daemon a browser that vanished (one to
/// two minutes, doc/security.md). With shorter times in the configuration it would prove nothing about these, which are the
/// ones that are shipped, so it takes as long as it takes; ten seconds more, because the first stream of a browser is soon
/// ended to see how late it comes back.
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
        // The first one of each, to see how late it comes back.
        assert_eq!(browser.tab.ended, 1);
    }
}
