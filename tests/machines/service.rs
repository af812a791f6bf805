//! The service in a booted systemd, with a real PostgreSQL beside it: what the units promise.

use std::sync::Arc;

use super::sandbox::the_sandbox_holds;
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

#[test]
fn the_service_keeps_its_promises() {
    if !is_root() {
        return;
    }
    let packages = Packages::built();
    let machine = Arc::new(Machine::boot());
    start_database(&machine);
    let deb = machine.put(&packages.deb);
    install(&machine, &deb);

    units_verify(&machine);
    without_the_triggers_it_says_what_to_do(&machine);
    it_becomes_ready_and_says_how_it_is(&machine);
    who_connects_during_a_restart_is_served_after_it(&machine);
    a_reload_applies_a_changed_keep_alive(&machine);
    a_killed_daemon_comes_back(&machine);
    a_frozen_daemon_trips_the_watchdog(&machine);
    the_sandbox_holds(&machine);
    a_broken_configuration_stops_it(&machine);
    it_listens_by_itself_without_the_socket(&machine);
    the_journal_has_priorities_and_no_times(&machine);
}

fn units_verify(machine: &Machine) {
    // Other units that are installed here may have faults of their own.
    let said = machine.run(&format!(
        "systemd-analyze verify {SERVICE} {SOCKET} 2>&1 | grep icinga-notifications-web || :"
    ));
    assert_eq!(said, "");
    machine.run(&format!(
        "systemd-analyze security --threshold=15 --no-pager {SERVICE}"
    ));
}

fn without_the_triggers_it_says_what_to_do(machine: &Machine) {
    configure(machine, "", "/run/postgresql");
    sql(
        machine,
        "notifications",
        &format!("-c 'GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}'"),
    );
    machine.attempt(&format!("systemctl start {SERVICE}"));
    // The start is over before the database was looked at, if that takes long.
    machine.wait_until(
        &format!("systemctl show --value -p ActiveState {SERVICE}"),
        |state| state == "failed",
    );
    assert_eq!(machine.show(SERVICE, "ExecMainStatus"), "78");
    assert_eq!(machine.show(SERVICE, "NRestarts"), "0");
    let journal = journal(machine);
    assert!(
        journal
            .lines()
            .any(|line| line.starts_with("3 ") && line.contains("install.sql")),
        "{journal}"
    );
    install_triggers(machine);
}

fn it_becomes_ready_and_says_how_it_is(machine: &Machine) {
    machine.run(&format!(
        "icinga-desktop-bridge check; systemctl start {SOCKET} {SERVICE}"
    ));
    assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
    let stream = stream(machine);
    machine.wait_until(
        &format!("systemctl show --value -p StatusText {SERVICE}"),
        |text| text == "1 stream of 1 user",
    );
    drop(stream);
    // Its user and group are what the unit says: not root's, and none that a file could belong to.
    let user = machine.run(&format!(
        "ps -o user:40= -o supgrp:40= -p {}",
        main_pid(machine)
    ));
    assert!(
        !user.contains("root") && user.contains("icingaweb2"),
        "{user}"
    );
}

fn who_connects_during_a_restart_is_served_after_it(machine: &Arc<Machine>) {
    // A restart that does not go on until it may.
    drop_in(
        machine,
        "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /srv/go ]; do sleep 0.1; done'\n",
    );
    let old = stream(machine);
    machine.run(&format!("systemctl restart --no-block {SERVICE}"));
    // The old daemon ends its streams with a time to come back.
    let farewell = old.rest();
    assert!(
        farewell.iter().any(|line| line.starts_with("retry:")),
        "{farewell:?}"
    );
    machine.wait_until(
        &format!("systemctl show --value -p SubState {SERVICE}"),
        |state| state == "start-pre",
    );
    let waiting = subscribe(machine);
    machine.wait_until(
        "ss -Htn state established '( dport = :9001 )'",
        |connections| !connections.is_empty(),
    );
    machine.run("touch /srv/go");
    waiting.wait_for("HTTP/1.1 200");
    waiting.wait_for("retry:");
    remove_drop_in(machine);

    let visitors = Visitors::of(machine);
    for _ in 0..3 {
        let before = main_pid(machine);
        machine.run(&format!("systemctl restart {SERVICE}"));
        assert_ne!(main_pid(machine), before);
    }
    visitors.were_served();
}

fn a_reload_applies_a_changed_keep_alive(machine: &Machine) {
    configure(machine, "keep_alive_seconds = 3600", "/run/postgresql");
    machine.run(&format!("systemctl restart {SERVICE}"));
    let (stream, pid) = (stream(machine), main_pid(machine));
    configure(machine, "keep_alive_seconds = 1", "/run/postgresql");
    machine.run(&format!("systemctl reload {SERVICE}"));
    for _ in 0..3 {
        stream.wait_for(":");
    }
    assert_eq!(main_pid(machine), pid);
    assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
    configure(machine, "", "/run/postgresql");
    machine.run(&format!("systemctl restart {SERVICE}"));
}

/// Waits until there is another main process than `before`, and its start is over.
fn wait_for_another(machine: &Machine, before: &str) {
    machine.wait_until(
        &format!("systemctl show --value -p MainPID -p ActiveState {SERVICE} | tr '\\n' ' '"),
        |now| {
            now.contains("active")
                && !now.contains("activating")
                && !now.contains(before)
                && !now.starts_with("0 ")
        },
    );
}

fn a_killed_daemon_comes_back(machine: &Machine) {
    let (open, before) = (stream(machine), main_pid(machine));
    machine.run(&format!("systemctl kill --signal=KILL {SERVICE}"));
    // A clean end, after which a browser comes back.
    open.rest();
    // Nobody is refused meanwhile.
    drop(stream(machine));
    wait_for_another(machine, &before);
}

fn a_frozen_daemon_trips_the_watchdog(machine: &Machine) {
    // Two beats and no more, so that the test need not wait so long.
    drop_in(machine, "[Service]\nWatchdogSec=20\n");
    machine.run(&format!("systemctl restart {SERVICE}"));
    let before = main_pid(machine);
    machine.run(&format!("systemctl kill --signal=STOP {SERVICE}"));
    wait_for_another(machine, &before);
    let journal = journal(machine);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    drop(stream(machine));
    remove_drop_in(machine);
    machine.run(&format!("systemctl restart {SERVICE}"));
}

fn a_broken_configuration_stops_it(machine: &Machine) {
    configure(machine, "port = 70000", "/run/postgresql");
    assert!(
        !machine
            .attempt(&format!("systemctl restart {SERVICE}"))
            .status
            .success()
    );
    // Not "auto-restart": no restart is to come.
    assert_eq!(machine.show(SERVICE, "SubState"), "failed");
    assert_eq!(machine.show(SERVICE, "ExecMainStatus"), "78");
    let journal = journal(machine);
    let line = "config.ini, line 2, [daemon] port: give a port number";
    assert!(
        journal
            .lines()
            .any(|l| l.starts_with("3 ") && l.contains(line)),
        "{journal}"
    );
    // The socket is still open, but who connects does not start it again and again.
    assert_eq!(machine.show(SOCKET, "ActiveState"), "active");
    request(machine);
    machine.wait_until(
        &format!("systemctl show --value -p ActiveState {SOCKET}"),
        |state| state == "failed",
    );
    configure(machine, "", "/run/postgresql");
    machine.run(&format!(
        "systemctl reset-failed {SERVICE} {SOCKET}; systemctl start {SOCKET} {SERVICE}"
    ));
    drop(stream(machine));
}

fn it_listens_by_itself_without_the_socket(machine: &Machine) {
    // By TCP and a name this time.
    configure(machine, "", "localhost");
    machine.run(&format!(
        "systemctl disable --quiet {SOCKET}; systemctl stop {SOCKET} {SERVICE}; systemctl start {SERVICE}"
    ));
    assert_eq!(machine.show(SOCKET, "ActiveState"), "inactive");
    drop(stream(machine));

    let path = "/run/icinga-notifications-web/http.sock";
    configure(machine, &format!("host = {path}"), "127.0.0.1");
    machine.run(&format!("systemctl restart {SERVICE}"));
    let answer = machine.run(&format!(
        "runuser -u nobody -- curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {path} {URL}"
    ));
    assert_eq!(answer, "204");
    machine.run(&format!("systemctl stop {SERVICE}"));
}

fn the_journal_has_priorities_and_no_times(machine: &Machine) {
    let journal = journal(machine);
    let has = |text: &str| journal.lines().any(|line| line.starts_with(text));
    assert!(has("6 ready: listening for notifications"), "{journal}");
    assert!(
        has("6 listening on [::]:9001, a socket of systemd's"),
        "{journal}"
    );
    assert!(
        has("6 listening on [::]:9001") && has("6 stopped"),
        "{journal}"
    );
    for line in journal.lines() {
        let (priority, message) = line.split_once(' ').expect("a priority and a message");
        assert!(priority.parse::<u8>().is_ok(), "{line}");
        assert!(
            !message.starts_with('<') && !message.starts_with('['),
            "{line}"
        );
        assert!(!message.contains(SESSION_ID), "{line}");
        assert!(!message.contains("secret-of-the-bridge"), "{line}");
    }
    assert!(!journal.contains("INFO"), "{journal}");
}
