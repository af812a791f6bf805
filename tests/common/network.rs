//! A network of the test's own, in which every port is free: the daemon can listen on the addresses in the shipped files of the
//! proxies.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Moves the calling thread, and all sockets and processes that it creates from now on, into a new network namespace with a
/// loopback interface that also has `addresses`. The namespace ends with the last of them.
///
/// Only for tests on a current-thread runtime: the thread belongs to the test.
///
/// # Panics
///
/// Without the right to do that; root has it.
pub(crate) fn enter_private_network(addresses: &[&str]) {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!(
            "no network namespace ({error}): run the tests as root, or through \
             unshare --user --map-current-user --keep-caps"
        );
    }
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        add(address);
    }
}

/// Adds an address to the calling thread's network.
pub(crate) fn add(address: &str) {
    ip(&["address", "add", address, "dev", "lo"]);
}

/// Removes an address: peers at it become unreachable, without any notice.
pub(crate) fn remove(address: &str) {
    ip(&["address", "del", &format!("{address}/32"), "dev", "lo"]);
}

fn ip(arguments: &[&str]) {
    let status = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .map(|program| Command::new(program).args(arguments).status())
        .expect("the program ip (apt-get install iproute2)")
        .expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}
