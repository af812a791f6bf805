//! The life of the .deb: it is installed beside the web module's package, upgraded, removed and purged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

/// A package like the web module's: it has a unit with our name, for a daemon that uses our port.
pub(super) fn web_module(directory: &Path, version: &str) -> PathBuf {
    let tree = directory.join(version);
    // Where Debian 12's own packages have them.
    let units = tree.join("lib/systemd/system");
    fs::create_dir_all(&units).expect("directories");
    let exec = php_daemon("[::]:9001");
    fs::write(
        units.join(SERVICE),
        format!("[Service]\nExecStart={exec}\n[Install]\nWantedBy=multi-user.target\n"),
    )
    .expect("a unit");
    repack(
        &tree,
        &format!(
            "Package: icinga-notifications-web\nVersion: {version}\nArchitecture: all\n\
             Maintainer: nobody <nobody@example.org>\nDescription: as the web module's\n"
        ),
        directory.join(format!("web_{version}.deb")),
    )
}

/// Packs a directory.
pub(super) fn repack(tree: &Path, control: &str, deb: PathBuf) -> PathBuf {
    fs::create_dir_all(tree.join("DEBIAN")).expect("a directory");
    fs::write(tree.join("DEBIAN/control"), control).expect("control");
    let output = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(tree)
        .arg(&deb)
        .output()
        .expect("dpkg-deb runs");
    assert!(output.status.success(), "{output:?}");
    deb
}

/// The package with a higher version.
pub(super) fn next_version(directory: &Path, deb: &Path) -> PathBuf {
    let tree = directory.join("next");
    let status = Command::new("dpkg-deb")
        .arg("-R")
        .arg(deb)
        .arg(&tree)
        .status();
    assert!(status.expect("dpkg-deb runs").success());
    let control = fs::read_to_string(tree.join("DEBIAN/control")).expect("control");
    let (before, after) = control.split_once("\nVersion: ").expect("a version");
    let (_, rest) = after.split_once('\n').expect("more fields");
    let control = format!("{before}\nVersion: 99.0-1\n{rest}");
    repack(&tree, &control, directory.join("next.deb"))
}

#[test]
fn the_package_comes_is_upgraded_and_goes() {
    comes_is_upgraded_and_goes(Machine::boot());
}

/// The package built on one release of Debian also works on the next.
#[test]
fn the_package_comes_is_upgraded_and_goes_on_debian_13() {
    let machine = Machine::boot_system(&debian_13());
    machine.run("grep -q VERSION_CODENAME=trixie /etc/os-release");
    comes_is_upgraded_and_goes(machine);
}

/// A Debian 13, fetched when it is first asked for.
fn debian_13() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian-13");
    if !root.is_dir() {
        let fetched = root.with_extension("new");
        // From a fetch that was interrupted.
        let _ = fs::remove_dir_all(&fetched);
        let include = "--include=systemd-sysv,dbus,iproute2,curl,libssl3t64,postgresql-17";
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"])
            .args([include, "trixie"])
            .arg(&fetched)
            .output()
            .expect("mmdebstrap runs (apt-get install mmdebstrap)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&fetched, &root).expect("a complete one");
    }
    root
}

fn comes_is_upgraded_and_goes(machine: Machine) {
    let machine = Arc::new(machine);
    start_database(&machine);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let packaged = &Packages::built().deb;
    let deb = machine.put(packaged);
    let next = machine.put(&next_version(directory.path(), packaged));
    let [web, newer_web] =
        ["1.0", "1.1"].map(|version| machine.put(&web_module(directory.path(), version)));

    start_web_modules_daemon(&machine, &web);
    let before = written(&machine);
    an_installation_disturbs_nothing_that_runs(&machine, &deb);
    an_upgrade_of_the_web_module_leaves_our_unit(&machine, &newer_web);
    the_service_takes_over(&machine);
    an_upgrade_refuses_nobody(&machine, &next);
    what_was_stopped_stays_stopped(&machine, &next);
    a_removal_gives_the_other_unit_back(&machine);
    a_purge_leaves_nothing(&machine, &before);
}

pub(super) fn start_web_modules_daemon(machine: &Machine, web: &str) {
    install(machine, web);
    machine.run(&format!(
        "systemctl daemon-reload; systemctl enable --quiet --now {SERVICE}"
    ));
    // Created by the package, and left behind, as Debian's packages leave groups.
    machine.run("groupadd --system icingaweb2");
    configure(machine, "", "/run/postgresql");
}

/// It is enabled, but the other daemon continues to run, because ours could not serve yet.
fn an_installation_disturbs_nothing_that_runs(machine: &Machine, deb: &str) {
    let php = main_pid(machine);
    let said = install(machine, deb);
    assert!(said.contains("sql/install.sql"), "{said}");
    assert_eq!(main_pid(machine), php);
    assert_eq!(
        machine.run(&format!("systemctl is-enabled {SERVICE} {SOCKET}")),
        "enabled\nenabled"
    );
    assert_eq!(
        machine.show(SERVICE, "Description"),
        "Icinga Notifications desktop bridge (PostgreSQL NOTIFY to Server-Sent Events)"
    );
}

fn an_upgrade_of_the_web_module_leaves_our_unit(machine: &Machine, newer_web: &str) {
    install(machine, newer_web);
    machine.run(&format!(
        "grep -q icinga-desktop-bridge /usr/lib/systemd/system/{SERVICE}"
    ));
}

/// The administrator follows the message of the installation.
fn the_service_takes_over(machine: &Machine) {
    install_triggers(machine);
    machine.run(&format!(
        "systemctl stop {SERVICE}; systemctl start {SOCKET} {SERVICE}"
    ));
    drop(stream(machine));
}

/// Another process, the same socket, and open streams end with a time to reconnect.
fn an_upgrade_refuses_nobody(machine: &Arc<Machine>, next: &str) {
    let running = Running::now(machine);
    let visitors = Visitors::of(machine);
    let open = stream(machine);
    install(machine, next);
    visitors.were_served();
    let final_block = open.rest();
    assert!(
        final_block.iter().any(|line| line.starts_with("retry:")),
        "{final_block:?}"
    );
    running.was_upgraded(machine);
}

fn what_was_stopped_stays_stopped(machine: &Machine, next: &str) {
    machine.run(&format!("systemctl stop {SOCKET} {SERVICE}"));
    install(machine, next);
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    machine.run(&format!("systemctl start {SOCKET} {SERVICE}"));
}

fn a_removal_gives_the_other_unit_back(machine: &Machine) {
    machine.run("dpkg --remove icinga-desktop-bridge 2>&1");
    assert!(
        request(machine).contains("curl: 7"),
        "the port is still open"
    );
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    machine.run(&format!(
        "grep -q perl /lib/systemd/system/{SERVICE}; systemctl restart {SERVICE}"
    ));
}

/// As if it had never been installed, except for the group.
fn a_purge_leaves_nothing(machine: &Machine, before: &BTreeSet<PathBuf>) {
    machine.run("dpkg --purge icinga-desktop-bridge 2>&1");
    let after = written(machine);
    assert_eq!(
        after.difference(before).collect::<Vec<_>>(),
        Vec::<&PathBuf>::new()
    );
    machine.run("! ls -d /run/icinga-notifications-web /run/systemd/system/icinga-* 2>/dev/null");
    assert_eq!(machine.run("dpkg-divert --list '*icinga*'"), "");
    machine.run("getent group icingaweb2");
}
