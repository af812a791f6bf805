//! The .rpm in a system with rpm's database: dnf finds the dependencies of the package, and replaces its predecessor.
//!
//! No registry that the tests can reach has a system made of rpm packages. So this host's libraries are registered in rpm's
//! database under their names on Fedora and RHEL: rpmbuild makes packages of them, and finds by itself what they provide.

use std::fmt::Write as _;
use std::path::Path;

use super::displaced::{PACKAGE, released_rpm, rpmbuild};
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

/// Packages of Fedora and RHEL: name, version, what rpm does not find in the files, the files.
const SYSTEM: [(&str, &str, &str, &str); 7] = [
    (
        "glibc",
        "2.34",
        "rtld(GNU_HASH)",
        "libc.so.6 ld-linux-x86-64.so.2",
    ),
    ("libgcc", "11", "", "libgcc_s.so.1"),
    ("openssl-libs", "3.0", "", "libssl.so.3 libcrypto.so.3"),
    ("bash", "5.1", "/bin/sh", ""),
    ("systemd", "252", "", ""),
    ("shadow-utils", "4.9", "", ""),
    ("ca-certificates", "2024", "", ""),
];

/// A specification of all of them.
fn specification() -> String {
    let mut packages = String::new();
    let mut install = "%install\n".to_owned();
    for (name, version, provides, files) in SYSTEM {
        let provides = match provides {
            "" => String::new(),
            capability => format!("Provides: {capability}\n"),
        };
        write!(
            packages,
            "%package -n {name}\nVersion: {version}\nSummary: of the system\n{provides}\
             %description -n {name}\nOf the system.\n%files -n {name}\n"
        )
        .expect("a string");
        for file in files.split_whitespace() {
            writeln!(packages, "/usr/lib64/{file}").expect("a string");
            writeln!(
                install,
                "install -D -m 755 /lib/*/{file} %{{buildroot}}/usr/lib64/{file}"
            )
            .expect("a string");
        }
    }
    format!(
        "Name: system\nVersion: 1\nRelease: 1\nSummary: a system\nLicense: none\n%global debug_package %{{nil}}\n\
         %global __os_install_post %{{nil}}\n%description\nA system.\n{packages}{install}"
    )
}

#[test]
fn dnf_installs_it_in_its_predecessors_place_and_removes_it() {
    let machine = Machine::boot();
    let directory = tempfile::tempdir().expect("a temporary directory");
    machine.run("mkdir -p /srv/system /srv/old /srv/new /usr/share/licenses; rpm --initdb");
    let of_system = rpmbuild(directory.path(), &specification());
    let put = |rpm: &Path, target: &str| {
        let rpm = machine.put(rpm);
        machine.run(&format!("mv {rpm} {target}/"));
    };
    for rpm in of_system {
        put(&rpm, "/srv/system");
    }
    put(&released_rpm(directory.path()), "/srv/old");
    put(&Packages::built().rpm, "/srv/new");
    // Only in the database: the files exist.
    machine.run("rpm --force-debian --install --justdb /srv/system/*.rpm");
    machine.run("createrepo_c --quiet /srv/old; createrepo_c --quiet /srv/new");
    let before = links(&machine);
    let dnf = |repository: &str, how: &str| {
        machine.run(&format!(
            "dnf --quiet --assumeyes --disablerepo='*' --repofrompath={repository},/srv/{repository} \
             --setopt={repository}.gpgcheck=0 --releasever=/ {how} 2>&1"
        ))
    };

    dnf("old", &format!("install {PACKAGE}"));
    machine.run(&format!(
        "systemctl daemon-reload; systemctl enable --quiet --now {ALIAS}"
    ));
    wait_for_php_daemon(&machine, 5664);
    dnf("new", "upgrade");
    assert_eq!(
        machine.run("rpm --query --all --queryformat '%{NAME}\\n' 'icinga*'"),
        "icinga-desktop-bridge"
    );
    assert!(!php_daemon_listens(&machine));
    for unit in [SERVICE, SOCKET] {
        assert_eq!(is_enabled(&machine, unit), "enabled");
    }
    machine.run("icinga-desktop-bridge --version; rpm --verify icinga-desktop-bridge");
    dnf("new", "remove icinga-desktop-bridge");
    assert_eq!(links(&machine), before);
}
