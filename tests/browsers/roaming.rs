//! A laptop that changes its network, behind real proxies with the shipped files: no proxy notices that its client has gone.

use std::net::IpAddr;

use crate::common::apache::Apache;
use crate::common::eventsource::{EventSource, Site};
use crate::common::network::{add, remove};
use crate::common::nginx::Nginx;
use crate::common::sse::AGENT;
use crate::common::world::World;

/// The networks, one after the other.
const ADDRESSES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];

/// Opens a browser's tabs at an address.
async fn open(site: &Site, client: &str, session_id: &str, tabs: usize) -> Vec<EventSource> {
    let client: IpAddr = client.parse().expect("an address");
    let mut open = Vec::new();
    for _ in 0..tabs {
        // The second may be accepted only after a dead one is detected.
        open.push(EventSource::open_at_last(&site.from(client), session_id).await);
    }
    open
}

/// The next event of any of the tabs.
async fn event(tabs: &mut [EventSource]) -> i64 {
    let events = tabs.iter_mut().map(|tab| Box::pin(tab.event()));
    let (event, ..) = futures::future::select_all(events).await;
    event.incident()
}

/// Addresses vanish three times in a row, with an event each time.
async fn roams(world: &World, site: &Site, tabs: usize) {
    let name = format!("{}{tabs}{}", site.url(), rand::random::<u32>());
    let contact = world.icinga.contact(&name).await;
    let session_id = world.icinga.sign_in(&name, AGENT).await;
    add(ADDRESSES[0]);
    let mut here = open(site, ADDRESSES[0], &session_id, tabs).await;
    for (old, new) in ADDRESSES.iter().zip(&ADDRESSES[1..]) {
        remove(old);
        let missed = world.incident(contact, "missed").await;
        drop(here);
        add(new);
        here = open(site, new, &session_id, tabs).await;
        assert_eq!(event(&mut here).await, missed.incident, "{site:?} at {new}");
        let next = world.incident(contact, "next").await;
        assert_eq!(event(&mut here).await, next.incident, "{site:?} at {new}");
        world.delivered_to(&session_id, next.history[0]).await;
    }
    remove(ADDRESSES[3]);
}

#[tokio::test]
async fn behind_nginx_who_roams_gets_what_it_missed_once_and_what_comes_next() {
    let world = World::behind_proxies("nginx_roaming").await;
    let nginx = Nginx::shipped();
    for site in nginx.sites() {
        for tabs in [1, 2] {
            roams(&world, &site, tabs).await;
            roams(&world, &site.clone().naming(), tabs).await;
        }
    }
}

#[tokio::test]
async fn behind_apache_who_roams_gets_what_it_missed_once_and_what_comes_next() {
    let world = World::behind_proxies("apache_roaming").await;
    let apache = Apache::including("icinga-desktop-bridge.conf");
    for site in apache.sites() {
        for tabs in [1, 2] {
            roams(&world, &site, tabs).await;
            roams(&world, &site.clone().naming(), tabs).await;
        }
    }
}
