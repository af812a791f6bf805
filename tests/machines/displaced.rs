//! The package of the PHP daemon of the web module's releases 0.1 to 0.3, whose place ours takes: what becomes of it, and of
//! whether it was enabled.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::output;
use super::deb::{next_version, repack};
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

pub(super) const PACKAGE: &str = "icinga-desktop-notifications";

/// Scripts as debhelper makes them, up to that of Debian 11, which masks the unit of a removed package.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "postinst",
        "#!/bin/sh
set -e
deb-systemd-helper unmask $UNIT >/dev/null || true
if deb-systemd-helper --quiet was-enabled $UNIT; then
    deb-systemd-helper enable $UNIT >/dev/null || true
else
    deb-systemd-helper update-state $UNIT >/dev/null || true
fi
systemctl --system daemon-reload
deb-systemd-invoke start $UNIT >/dev/null || true
",
    ),
    (
        "prerm",
        "#!/bin/sh
set -e
[ \"$1\" != remove ] || deb-systemd-invoke stop $UNIT >/dev/null || true
",
    ),
    (
        "postrm",
        "#!/bin/sh
set -e
[ \"$1\" != remove ] || deb-systemd-helper mask $UNIT >/dev/null || true
if [ \"$1\" = purge ]; then
    deb-systemd-helper purge $UNIT >/dev/null || true
    deb-systemd-helper unmask $UNIT >/dev/null || true
fi
systemctl --system daemon-reload
",
    ),
];

/// The unit of such a package.
fn unit() -> String {
    let exec = php_daemon("127.0.0.1:5664");
    format!("[Service]\nExecStart={exec}\n[Install]\nWantedBy=multi-user.target\n")
}

/// A .deb like that one.
pub(super) fn released_deb(directory: &Path) -> PathBuf {
    let tree = directory.join(PACKAGE);
    for (name, text) in SCRIPTS {
        let script = tree.join("DEBIAN").join(name);
        fs::create_dir_all(tree.join("DEBIAN")).expect("a directory");
        fs::write(&script, text.replace("$UNIT", ALIAS)).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let units = tree.join("lib/systemd/system");
    fs::create_dir_all(&units).expect("directories");
    fs::write(units.join(ALIAS), unit()).expect("a unit");
    repack(
        &tree,
        &format!(
            "Package: {PACKAGE}\nVersion: 0.3.0-1\nArchitecture: all\n\
             Maintainer: nobody <nobody@example.org>\nDescription: as the one of Icinga\n"
        ),
        directory.join(format!("{PACKAGE}_0.3.0-1_all.deb")),
    )
}

/// A .rpm like that one.
pub(super) fn released_rpm(directory: &Path) -> PathBuf {
    fs::write(directory.join(ALIAS), unit()).expect("a unit");
    let specification = format!(
        "Name: {PACKAGE}\nVersion: 0.3.0\nRelease: 1\nSummary: as the one of Icinga\nLicense: none\nBuildArch: noarch\n\
         %description\n%install\n\
         install -D -m 644 {unit} %{{buildroot}}/usr/lib/systemd/system/{ALIAS}\n\
         %preun\n[ $1 -ne 0 ] || systemctl --quiet --no-reload disable --now {ALIAS} || :\n\
         %postun\nsystemctl daemon-reload || :\n\
         %files\n/usr/lib/systemd/system/{ALIAS}\n",
        unit = directory.join(ALIAS).display()
    );
    rpmbuild(directory, &specification).remove(0)
}

/// Builds what a specification says.
pub(super) fn rpmbuild(directory: &Path, specification: &str) -> Vec<PathBuf> {
    let top = tempfile::tempdir_in(directory).expect("a directory").keep();
    let spec = top.join("packages.spec");
    fs::write(&spec, specification).expect("a specification");
    let built = Command::new("rpmbuild")
        .arg("-bb")
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg("--define")
        .arg("_rpmfilename %%{NAME}-%%{VERSION}.rpm")
        .arg(&spec)
        .output()
        .expect("rpmbuild runs (apt-get install rpm)");
    assert!(built.status.success(), "{built:?}");
    let rpms = fs::read_dir(top.join("RPMS")).expect("what was built");
    rpms.map(|rpm| rpm.expect("an entry").path()).collect()
}

/// Asserts that the service is enabled, under both names.
fn is_enabled_by_both_names(machine: &Machine) {
    assert_eq!(is_enabled(machine, SERVICE), "enabled");
    assert_eq!(is_enabled(machine, SOCKET), "enabled");
    assert_eq!(is_enabled(machine, ALIAS), "alias");
    assert_eq!(machine.show(ALIAS, "Id"), SERVICE);
}

#[test]
fn the_debs_predecessor_makes_place_and_comes_back() {
    let machine = Machine::boot();
    start_database(&machine);
    machine.run("groupadd --system icingaweb2");
    configure(&machine, "", "/run/postgresql");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let packaged = &Packages::built().deb;
    let deb = machine.put(packaged);
    let next = machine.put(&next_version(directory.path(), packaged));
    let released = machine.put(&released_deb(directory.path()));
    let before = (written(&machine), links(&machine));

    it_is_displaced(&machine, &released, &deb);
    the_service_answers_to_its_name(&machine, &next);
    a_removal_leaves_its_name_to_it(&machine, &released, &next);
    purged_after_it_nothing_is_left(&machine, &deb);
    assert_eq!((written(&machine), links(&machine)), before);
    what_was_disabled_stays_disabled(&machine, &released, &deb, &next);
    machine.run(&format!(
        "dpkg --purge icinga-desktop-bridge {PACKAGE} 2>&1"
    ));
    assert_eq!((written(&machine), links(&machine)), before);
}

fn it_is_displaced(machine: &Machine, released: &str, deb: &str) {
    install(machine, released);
    wait_for_php_daemon(machine, 5664);
    assert_eq!(is_enabled(machine, ALIAS), "enabled");

    let said = install(machine, deb);
    assert!(said.contains("enabled, but not started yet"), "{said}");
    assert!(!php_daemon_listens(machine));
    let state = machine.run(&format!(
        "dpkg-query -W -f '${{db:Status-Abbrev}}' {PACKAGE}"
    ));
    // Removed, but not purged.
    assert!(state.trim().ends_with('c'), "{state}");
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    is_enabled_by_both_names(machine);
}

fn the_service_answers_to_its_name(machine: &Machine, next: &str) {
    install_triggers(machine);
    machine.run(&format!("systemctl start {SOCKET} {SERVICE}"));
    drop(stream(machine));
    assert_eq!(machine.show(ALIAS, "ActiveState"), "active");
    let before = main_pid(machine);
    machine.run(&format!("systemctl restart {ALIAS}"));
    assert_ne!(main_pid(machine), before);
    drop(stream(machine));

    let running = Running::now(machine);
    install(machine, next);
    running.was_upgraded(machine);
    is_enabled_by_both_names(machine);
}

/// The alias would be broken, and come before the unit of the package.
fn a_removal_leaves_its_name_to_it(machine: &Machine, released: &str, next: &str) {
    machine.run("dpkg --remove icinga-desktop-bridge 2>&1");
    assert!(!links(machine).contains(&format!("/etc/systemd/system/{ALIAS}")));
    // Removed and not purged: it comes back as it was.
    install(machine, next);
    is_enabled_by_both_names(machine);

    machine.run("dpkg --remove icinga-desktop-bridge 2>&1");
    install(machine, released);
    wait_for_php_daemon(machine, 5664);
    assert_eq!(is_enabled(machine, ALIAS), "enabled");
    assert_eq!(
        machine.show(ALIAS, "FragmentPath"),
        format!("/lib/systemd/system/{ALIAS}")
    );
}

fn purged_after_it_nothing_is_left(machine: &Machine, deb: &str) {
    machine.run("dpkg --purge icinga-desktop-bridge 2>&1");
    install(machine, deb);
    // Ours goes on, when the displaced package is forgotten.
    machine.run(&format!(
        "systemctl start {SOCKET} {SERVICE}; dpkg --purge {PACKAGE} 2>&1"
    ));
    drop(stream(machine));
    is_enabled_by_both_names(machine);
    machine.run("dpkg --purge icinga-desktop-bridge 2>&1");
}

fn what_was_disabled_stays_disabled(machine: &Machine, released: &str, deb: &str, next: &str) {
    install(machine, released);
    machine.run(&format!("systemctl disable --quiet --now {ALIAS}"));
    let said = install(machine, deb);
    for part in [
        "icinga-desktop-bridge is not enabled, as icinga-desktop-notifications.service was not, and not started",
        "systemctl enable --now icinga-notifications-web.socket icinga-notifications-web.service",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for _ in 0..2 {
        for unit in [SERVICE, SOCKET] {
            assert_eq!(is_enabled(machine, unit), "disabled");
        }
        assert_eq!(machine.show(ALIAS, "LoadState"), "not-found");
        install(machine, next);
    }
    machine.run(&format!(
        "systemctl enable --quiet --now {SOCKET} {SERVICE}"
    ));
    is_enabled_by_both_names(machine);
    drop(stream(machine));
}

#[test]
fn the_rpms_predecessor_makes_place() {
    let machine = Machine::boot();
    machine.run("rpm --initdb; groupadd --system icingaweb2");
    let before = links(&machine);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rpm = machine.put(&Packages::built().rpm);
    let released = machine.put(&released_rpm(directory.path()));
    let run = |how: &str| machine.run(&format!("rpm --force-debian --nodeps {how} 2>&1"));
    for (was, expected) in [("enable", "enabled"), ("disable", "disabled")] {
        run(&format!("--install {released}"));
        machine.run(&format!(
            "systemctl daemon-reload; systemctl start {ALIAS}; systemctl {was} --quiet {ALIAS}"
        ));
        assert_eq!(run(&format!("--upgrade {rpm}")), "");
        assert_eq!(
            machine.run("rpm --query --all | grep -c '^icinga'"),
            "1",
            "it is still there"
        );
        assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
        assert!(!php_daemon_listens(&machine));
        for unit in [SERVICE, SOCKET] {
            assert_eq!(is_enabled(&machine, unit), expected);
        }
        if expected == "enabled" {
            is_enabled_by_both_names(&machine);
        }
        machine.run("! ls -d /var/lib/rpm-state 2>/dev/null");
        assert_eq!(run("--erase icinga-desktop-bridge"), "");
        assert_eq!(links(&machine), before);
    }
}

#[test]
fn the_packages_say_whose_place_they_take() {
    let packages = Packages::built();
    for field in ["Conflicts", "Replaces", "Provides"] {
        let mut command = Command::new("dpkg-deb");
        let value = output(command.arg("--field").arg(&packages.deb).arg(field));
        assert_eq!(value.trim(), PACKAGE, "{field}");
    }
    for kind in ["--conflicts", "--obsoletes", "--provides"] {
        let mut command = Command::new("rpm");
        command.args(["--dbpath", "/nonexistent", "--query", "--package", kind]);
        let values = output(command.arg(&packages.rpm));
        assert!(
            values.lines().any(|value| value == PACKAGE),
            "{kind}: {values}"
        );
    }
}
