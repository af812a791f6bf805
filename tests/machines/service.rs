//! The service in a booted systemd, with a real PostgreSQL: what the units promise.
//!
//! Most tests use one machine for several steps, because each step continues from the one before.

use std::sync::Arc;

use super::steps::*;
use crate::common::systemd::Machine;

#[test]
fn a_start_that_cannot_succeed_says_why_and_is_not_repeated() {
    let machine = installed();
    without_the_triggers_it_says_what_to_do(&machine);
    machine.run(&format!("systemctl start {SOCKET} {SERVICE}"));
    drop(stream(&machine));
    a_broken_configuration_stops_it(&machine);
    journal_is_clean(&machine);
}

fn without_the_triggers_it_says_what_to_do(machine: &Machine) {
    configure(machine, "", "/run/postgresql");
    sql(
        machine,
        "notifications",
        &format!("-c 'GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}'"),
    );
    machine.attempt(&format!("systemctl start {SERVICE}"));
    // The start is complete before the first look at the database, if that takes long.
    wait_for_state(machine, SERVICE, "ActiveState", "failed");
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

fn a_broken_configuration_stops_it(machine: &Machine) {
    configure(machine, "port = 70000", "/run/postgresql");
    assert!(
        !machine
            .attempt(&format!("systemctl restart {SERVICE}"))
            .status
            .success()
    );
    // Not "auto-restart": no restart is pending.
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
    // The socket is still open, but connections do not start the service again and again.
    assert_eq!(machine.show(SOCKET, "ActiveState"), "active");
    request(machine);
    wait_for_state(machine, SOCKET, "ActiveState", "failed");
    configure(machine, "", "/run/postgresql");
    machine.run(&format!(
        "systemctl reset-failed {SERVICE} {SOCKET}; systemctl start {SOCKET} {SERVICE}"
    ));
    drop(stream(machine));
}

#[test]
fn browsers_are_served_through_restarts_reloads_and_kills() {
    let machine = running();
    it_becomes_ready_and_says_how_it_is(&machine);
    both_generations_of_proxies_are_served(&machine);
    who_connects_during_a_restart_is_served_after_it(&machine);
    a_reload_applies_a_changed_keep_alive(&machine);
    a_killed_daemon_comes_back(&machine);
    while_one_port_is_taken_the_other_is_served(&machine);
    it_listens_by_itself_without_the_socket(&machine);
    the_journal_says_what_happened(&machine);
}

fn it_becomes_ready_and_says_how_it_is(machine: &Machine) {
    machine.run("icinga-desktop-bridge check");
    assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
    let tab = tab(machine);
    wait_for_state(machine, SERVICE, "StatusText", "1 stream of 1 user");
    drop(tab);
    // Its user and group are those of the unit: not root's, and none that a file could belong to.
    let user = machine.run(&format!(
        "ps -o user:40= -o supgrp:40= -p {}",
        main_pid(machine)
    ));
    assert!(
        !user.contains("root") && user.contains("icingaweb2"),
        "{user}"
    );
}

/// The addresses of the proxies of both generations.
const PLACES: [&str; 3] = ["127.0.0.1:9001", "[::1]:9001", "127.0.0.1:5664"];

fn both_generations_of_proxies_are_served(machine: &Machine) {
    for place in PLACES {
        let answer = machine.run(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' http://{place}/icingaweb2/notifications/v1/subscribe"
        ));
        assert_eq!(answer, "204", "{place}");
    }
}

fn who_connects_during_a_restart_is_served_after_it(machine: &Arc<Machine>) {
    // A restart that is held until it may continue.
    drop_in(
        machine,
        "[Service]\nExecStartPre=/bin/sh -c 'until [ -e /srv/go ]; do sleep 0.1; done'\n",
    );
    let old = stream(machine);
    machine.run(&format!("systemctl restart --no-block {SERVICE}"));
    // The old daemon ends its streams with a time to reconnect.
    let final_block = old.rest();
    assert!(
        final_block.iter().any(|line| line.starts_with("retry:")),
        "{final_block:?}"
    );
    wait_for_state(machine, SERVICE, "SubState", "start-pre");
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
    let (tab, pid) = (tab(machine), main_pid(machine));
    configure(machine, "keep_alive_seconds = 1", "/run/postgresql");
    machine.run(&format!("systemctl reload {SERVICE}"));
    for _ in 0..3 {
        tab.wait_for(":");
    }
    assert_eq!(main_pid(machine), pid);
    assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
    configure(machine, "", "/run/postgresql");
    machine.run(&format!("systemctl restart {SERVICE}"));
}

fn a_killed_daemon_comes_back(machine: &Machine) {
    let (open, before) = (stream(machine), main_pid(machine));
    machine.run(&format!("systemctl kill --signal=KILL {SERVICE}"));
    // A clean end, after which a browser reconnects.
    open.rest();
    // No request is refused meanwhile.
    drop(stream(machine));
    wait_for_another(machine, &before);
}

/// systemd opens none of a unit's ports if it cannot open all of them; the service does not wait for that unit.
fn while_one_port_is_taken_the_other_is_served(machine: &Machine) {
    machine.run(&format!("systemctl stop {SOCKET} {SERVICE}"));
    let holds_a_port = php_daemon("127.0.0.1:5664");
    machine.run(&format!("systemd-run --quiet --unit=taker {holds_a_port}"));
    wait_for_php_daemon(machine, 5664);
    let start = format!("systemctl start {SOCKET} {SERVICE}");
    assert!(!machine.attempt(&start).status.success());
    assert_eq!(machine.show(SOCKET, "ActiveState"), "failed");
    assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
    drop(stream(machine));
    let journal = journal(machine);
    let warning = "4 cannot listen on 127.0.0.1:5664: Address already in use (os error 98); serving [::]:9001 only.";
    assert!(journal.contains(warning), "{journal}");

    machine.run(&format!("systemctl stop taker {SERVICE}; {start}"));
    both_generations_of_proxies_are_served(machine);
}

fn it_listens_by_itself_without_the_socket(machine: &Machine) {
    // Over TCP and with a name this time.
    configure(machine, "", "localhost");
    machine.run(&format!(
        "systemctl disable --quiet {SOCKET}; systemctl stop {SOCKET} {SERVICE}; systemctl start {SERVICE}"
    ));
    assert_eq!(machine.show(SOCKET, "ActiveState"), "inactive");
    both_generations_of_proxies_are_served(machine);
    drop(stream(machine));

    let path = "/run/icinga-notifications-web/http.sock";
    let admin = "/run/icinga-notifications-web/admin.sock";
    let keys = format!("host = {path}\nadmin = {admin}");
    configure(machine, &keys, "127.0.0.1");
    machine.run(&format!("systemctl restart {SERVICE}"));
    let answer = machine.run(&format!(
        "runuser -u nobody -- curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {path} {URL}"
    ));
    assert_eq!(answer, "204");
    // Icinga's user must not be able to read the configuration either.
    let plugin = "runuser -u nobody -- icinga-desktop-bridge check-health";
    let health = machine.run(&format!("{plugin} --admin {admin}"));
    assert!(health.starts_with("DESKTOP-BRIDGE OK: "), "{health}");
    let unread = machine.run(&format!("{plugin} || [ $? -eq 3 ]"));
    let begin = "DESKTOP-BRIDGE UNKNOWN: cannot read [daemon] admin: ";
    assert!(
        unread.starts_with(begin) && unread.contains("--admin"),
        "{unread}"
    );
    machine.run(&format!("systemctl stop {SERVICE}"));
}

fn the_journal_says_what_happened(machine: &Machine) {
    let journal = journal_is_clean(machine);
    for text in [
        "6 ready: listening for notifications",
        "6 listening on [::]:9001, a socket from systemd",
        "6 listening on 127.0.0.1:5664, a socket from systemd",
        "6 listening on [::]:9001",
        "6 listening on 127.0.0.1:5664",
        "6 stopped",
    ] {
        assert!(
            journal.lines().any(|line| line.starts_with(text)),
            "{text}: {journal}"
        );
    }
    assert!(!journal.contains("not used"), "{journal}");
}

#[test]
fn a_frozen_daemon_trips_the_watchdog() {
    let machine = running();
    // Only two beats, so that the test does not take so long.
    drop_in(&machine, "[Service]\nWatchdogSec=20\n");
    machine.run(&format!("systemctl restart {SERVICE}"));
    let before = main_pid(&machine);
    let mut follow = machine.command("journalctl");
    follow.args(["--follow", "--output=cat", "--unit", SERVICE]);
    let log = machine.spawn(follow);
    machine.run(&format!("systemctl kill --signal=STOP {SERVICE}"));
    log.wait_for(&format!("{SERVICE}: Watchdog timeout"));
    wait_for_another(&machine, &before);
    drop(stream(&machine));
    journal_is_clean(&machine);
}
