//! The life of the .rpm: it is installed, upgraded and removed.

use std::path::PathBuf;

use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

#[test]
fn the_rpm_comes_is_upgraded_and_goes() {
    let machine = Machine::boot();
    start_database(&machine);
    let rpm = machine.put(&Packages::built().rpm);
    // Its dependencies are Debian's packages, hence --nodeps; Debian's rpm only installs with --force-debian.
    let run = |how: &str| machine.run(&format!("rpm --force-debian --nodeps {how} 2>&1"));
    machine.run("rpm --initdb; mkdir -p /usr/share/licenses");
    let before = written(&machine);

    // The scripts are silent if nothing is wrong; nothing is started.
    assert_eq!(run(&format!("--install {rpm}")), "");
    machine.run("getent group icingaweb2");
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    assert_eq!(
        machine.run("rpm --verify --nodeps icinga-desktop-bridge"),
        ""
    );

    configure(&machine, "", "/run/postgresql");
    install_triggers(&machine);
    machine.run(&format!(
        "systemctl enable --quiet --now {SOCKET} {SERVICE}"
    ));
    drop(stream(&machine));
    let running = Running::now(&machine);

    // An upgrade to the same version: another process, the same socket.
    assert_eq!(run(&format!("--upgrade --force {rpm}")), "");
    running.was_upgraded(&machine);

    // Only the configuration, which is Icinga Web's, and the group remain.
    assert_eq!(run("--erase icinga-desktop-bridge"), "");
    assert!(
        request(&machine).contains("curl: 7"),
        "the port is still open"
    );
    assert_eq!(machine.show(SERVICE, "LoadState"), "not-found");
    let mut after = written(&machine);
    let kept = [
        "etc/icingaweb2",
        // Created by groupadd; the machine's systemd creates no accounts that would have taken it before.
        "etc/.pwd.lock",
        "etc/group",
        "etc/group-",
        "etc/gshadow",
        "etc/gshadow-",
    ];
    after.retain(|file| !kept.iter().any(|kept| file.starts_with(kept)));
    assert_eq!(
        after.difference(&before).collect::<Vec<_>>(),
        Vec::<&PathBuf>::new()
    );
}
