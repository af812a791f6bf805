//! Migrating from the PHP daemon, of either generation, and back: the commands of the manual, as a reader types them.

use std::path::PathBuf;

use super::deb::web_module;
use super::displaced::released_deb;
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

const PAGE: &str = "doc/php-daemon.md";

/// A machine with the packages `old`, beside a configured Icinga Web; ours is in `/root`, and `old` in an apt repository.
fn machine_with(old: &[PathBuf]) -> Machine {
    let machine = Machine::boot();
    start_database(&machine);
    machine.run("groupadd --system icingaweb2");
    configure(&machine, "", "/run/postgresql");
    machine.put(&Packages::built().deb);
    machine.write(
        "/etc/apt/apt.conf",
        "Dir::Etc::sourcelist \"/etc/apt/of-test.list\";\nDir::Etc::sourceparts \"-\";\n\
         # The answer to each question.\nAPT::Get::Assume-Yes \"true\";\nAPT::Sandbox::User \"root\";\n",
    );
    machine.write(
        "/etc/apt/of-test.list",
        "deb [trusted=yes] file:/srv/repository ./\n",
    );
    for deb in old {
        let deb = machine.put(deb);
        machine.run(&format!(
            "mkdir -p /srv/repository; mv {deb} /srv/repository; cd /srv/repository; for deb in *.deb; do
                dpkg-deb --field $deb; echo \"Filename: ./$deb\"; echo \"Size: $(stat -c %s $deb)\"
                echo \"SHA256: $(sha256sum $deb | cut -d ' ' -f 1)\"; echo
             done >Packages; apt-get -qq update"
        ));
    }
    machine
}

/// Types the commands of a section, each of which must succeed.
fn type_commands(machine: &Machine, heading: &str, edit: impl Fn(&str) -> String) -> String {
    let commands = edit(&commands(PAGE, heading)).replace("alice", "anna");
    assert!(!commands.is_empty(), "no commands in {heading}");
    machine.run(&format!(
        "cd /root; export DEBIAN_FRONTEND=noninteractive PGHOST=/run/postgresql PGUSER=postgres; umask 022\n{commands}"
    ))
}

/// There and back, for a generation whose PHP daemon listens on `port` as `unit`, and runs.
fn there_and_back(
    machine: &Machine,
    generation: &str,
    unit: &str,
    port: u16,
    edit: impl Fn(&str) -> String,
) {
    let listed = type_commands(machine, "# Migrating from the PHP daemon", &edit);
    assert!(listed.contains(unit), "{listed}");
    let process = machine.show(unit, "MainPID");
    let checked = type_commands(machine, "## First, while the PHP daemon runs", &edit);
    assert!(checked.contains("ok    triggers"), "{checked}");
    assert_eq!(machine.show(unit, "MainPID"), process);
    assert!(php_daemon_listens(machine));

    type_commands(machine, &format!("## From {generation}"), &edit);
    assert!(!php_daemon_listens(machine));
    assert_eq!(is_enabled(machine, SERVICE), "enabled");
    let url = URL.replace("9001", &port.to_string());
    let tab = tab_at(machine, &url);
    let sent = type_commands(machine, "## Then", &edit);
    assert!(sent.contains("received the test notification"), "{sent}");
    drop(tab);

    type_commands(machine, &format!("### Back to {generation}"), &edit);
    wait_for_php_daemon(machine, port);
    assert_eq!(machine.show(unit, "ActiveState"), "active");
    assert_eq!(is_enabled(machine, unit), "enabled");
    machine.run("! command -v icinga-desktop-bridge");
    machine.run("rm -r /root/new");
    // Nothing of ours is left in the database, and everything else is still there.
    sql(
        machine,
        "notifications",
        "-c \"DO 'BEGIN ASSERT to_regnamespace(''icinga_desktop'') IS NULL; ASSERT (SELECT count(*) FROM contact) = 1; END'\"",
    );
}

#[test]
fn from_the_releases_and_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let machine = machine_with(&[released_deb(directory.path())]);
    machine.run(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install icinga-desktop-notifications 2>&1",
    );
    wait_for_php_daemon(&machine, 5664);
    let before = links(&machine);
    let generation = "releases 0.1 to 0.3";
    there_and_back(&machine, generation, ALIAS, 5664, str::to_owned);
    assert_eq!(links(&machine), before);

    // With addresses in the configuration, the socket unit has to be omitted.
    configure(&machine, "host = 127.0.0.1\nport = 5664", "/run/postgresql");
    there_and_back(&machine, generation, ALIAS, 5664, |commands| {
        commands.replace("icinga-notifications-web.socket ", "")
    });
    assert_eq!(links(&machine), before);
}

#[test]
fn from_the_manual_with_port_9001_and_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let machine = machine_with(&[web_module(directory.path(), "1.0")]);
    machine.run(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install icinga-notifications-web 2>&1
         systemctl daemon-reload; systemctl enable --quiet --now {SERVICE}"
    ));
    wait_for_php_daemon(&machine, 9001);
    let before = links(&machine);
    let generation = "the manual with port 9001";
    there_and_back(&machine, generation, SERVICE, 9001, str::to_owned);
    assert_eq!(links(&machine), before);
}
