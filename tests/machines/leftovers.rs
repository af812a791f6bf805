//! A machine is the same on every host: it has nothing that an administrator, Icinga Web or an earlier installation left there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

/// Files of a used host: `PATH` and `TEXT`. Lines to add to files of the host are in [`ADDED`].
const LEFT: [(&str, &str); 25] = [
    ("etc/icingaweb2/resources.ini", "[other]\n"),
    (
        "etc/icingaweb2/modules/notifications/config.ini",
        "[daemon]\n",
    ),
    // Units in all directories, and files that change units.
    (
        "etc/systemd/system/icinga-notifications-web.service",
        "[Service]\nExecStart=/bin/false\n",
    ),
    (
        "etc/systemd/system/icinga-notifications-web.service.d/left.conf",
        "[Service]\nUser=left\n",
    ),
    (
        "etc/systemd/system/service.d/left.conf",
        "[Service]\nProtectSystem=no\n",
    ),
    (
        "etc/systemd/journald.conf.d/left.conf",
        "[Journal]\nStorage=none\n",
    ),
    (
        "usr/lib/systemd/system/icinga-notifications-web.socket",
        "[Socket]\nListenStream=9001\n",
    ),
    (
        "usr/lib/systemd/system/icinga-notifications-web.service.php-daemon",
        "[Service]\n",
    ),
    (
        "usr/lib/systemd/system/icinga-desktop-notifications.service",
        "[Service]\nExecStart=/bin/false\n",
    ),
    (
        "usr/local/lib/systemd/system/icinga-desktop-notifications.service",
        "[Service]\nExecStart=/bin/false\n",
    ),
    (
        "run/systemd/system/icinga-notifications-web.service",
        "[Service]\nExecStart=/bin/false\n",
    ),
    (
        "var/lib/systemd/deb-systemd-helper-enabled/icinga-notifications-web.service.dsh-also",
        "left\n",
    ),
    // Both would create the group again at the next boot.
    ("usr/lib/sysusers.d/icingaweb2.conf", "g icingaweb2 -\n"),
    ("etc/sysusers.d/left.conf", "g icingaweb2 -\n"),
    (
        "usr/lib/tmpfiles.d/icingaweb2.conf",
        "d /etc/icingaweb2 0755 root root\n",
    ),
    // An installation by hand, one of the .deb and one of the .rpm.
    ("usr/bin/icinga-desktop-bridge", "left\n"),
    ("usr/share/icinga-desktop-bridge/sql/left.sql", "left\n"),
    ("usr/share/doc/icinga-desktop-bridge/left", "left\n"),
    (
        "var/lib/dpkg/info/icinga-desktop-bridge.list",
        "/.\n/usr\n/usr/lib/left-of-icinga\n",
    ),
    (
        "var/lib/dpkg/info/icinga-desktop-bridge.prerm",
        "#!/bin/sh\nexit 1\n",
    ),
    ("usr/lib/left-of-icinga", "left\n"),
    ("var/lib/rpm/rpmdb.sqlite", "left\n"),
    ("var/lib/rpm-state/icinga-desktop-bridge", "disabled\n"),
    // Of users.
    ("root/.curlrc", "--fail\n"),
    ("srv/database/PG_VERSION", "left\n"),
];

/// Lines that such a host has in files of Debian: `PATH` and `LINES`.
const ADDED: [(&str, &str); 7] = [
    (
        "etc/passwd",
        "left:x:987:987::/home/left:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n",
    ),
    (
        "etc/group",
        "icingaweb2:x:986:www-data,left\nleft:x:987:\nanna:x:1000:\n",
    ),
    (
        "etc/gshadow",
        "icingaweb2:!::www-data,left\nleft:!::\nanna:!::\n",
    ),
    ("etc/nsswitch.conf", "group: files left\n"),
    (
        "var/lib/dpkg/status",
        "Package: icinga-desktop-bridge\nStatus: install ok installed\nMaintainer: left\nArchitecture: amd64\n\
         Version: 99.9-1\nDescription: left\n\nPackage: icinga-notifications-web\nStatus: deinstall ok config-files\n\
         Maintainer: left\nArchitecture: all\nVersion: 99.9-1\nDescription: left\n\n\
         Package: icinga-desktop-notifications\nStatus: install ok installed\nMaintainer: left\nArchitecture: all\n\
         Version: 99.9-1\nDescription: left\n\n",
    ),
    (
        "var/lib/dpkg/diversions",
        "/usr/lib/systemd/system/icinga-notifications-web.service\n\
         /usr/lib/systemd/system/icinga-notifications-web.service.php-daemon\nicinga-desktop-bridge\n",
    ),
    (
        "var/lib/dpkg/statoverride",
        "root icingaweb2 2770 /etc/icingaweb2\n",
    ),
];

/// Writes all of that below a directory.
fn leave(directory: &Path) {
    let added = ADDED.map(|(path, lines)| {
        // Not every host has all of them.
        let here = fs::read_to_string(Path::new("/").join(path)).unwrap_or_default();
        (path, here + lines)
    });
    let left = LEFT.map(|(path, text)| (path, text.to_owned()));
    for (path, text) in left.into_iter().chain(added) {
        let file = directory.join(path);
        fs::create_dir_all(file.parent().expect("a directory")).expect(path);
        fs::write(file, text).expect(path);
    }
}

/// What could remain: accounts, dpkg's database, units, and all files with such names except the project's own, which other tests
/// may be building meanwhile. may be building meanwhile.
fn inventory(machine: &Machine) -> String {
    let built = std::env::current_exe().expect("the path of the tests");
    let target = built.ancestors().nth(3).expect("the target directory");
    machine.run(&format!(
        "cat /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/nsswitch.conf
         cat /var/lib/dpkg/status /var/lib/dpkg/diversions /var/lib/dpkg/statoverride
         systemctl list-unit-files --no-pager --no-legend
         find / -xdev \\( -path '{}' -o -path '{}' \\) -prune \
             -o \\( -name '*icinga*' -o -name 'left*' -o -name anna -o -name .curlrc -o -name 'rpmdb*' \\) -print | sort
         ls -A /root /srv /home",
        env!("CARGO_MANIFEST_DIR"),
        target.display(),
    ))
}

#[test]
fn a_used_host_makes_the_same_machine() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    leave(directory.path());
    let expected = inventory(&Machine::boot());
    let machine = Machine::boot_on_host_with(directory.path());
    let found = inventory(&machine);
    let lines = |text| BTreeSet::<&str>::from_iter(str::lines(text));
    let different: Vec<_> = lines(&found)
        .symmetric_difference(&lines(&expected))
        .copied()
        .collect();
    assert_eq!(different, [""; 0]);
    assert!(
        found == expected,
        "the same lines, but not in the same order"
    );

    // What failed on a host with Icinga Web.
    machine.run("groupadd --system icingaweb2; useradd --system left");
    let deb = machine.put(&Packages::built().deb);
    let said = install(&machine, &deb);
    assert!(said.contains("enabled, but not started yet"), "{said}");
    assert_eq!(machine.show(SERVICE, "DropInPaths"), "");
}
