//! The sandbox of the service: what it forbids, and that it allows everything needed.

use super::steps::*;
use crate::common::systemd::Machine;

/// Tries what the sandbox forbids, and what it allows; one line for each.
const BURGLAR: &str = r#"#!/bin/sh
for directory in /srv/anyone /etc/icingaweb2/modules/notifications /run/lock /dev/shm /run/icinga-notifications-web; do
    if (echo >"$directory/burglar") 2>/dev/null; then echo "may write to $directory"; else echo "may not write to $directory"; fi
done
[ -e /tmp/of-others ] && echo "sees others' /tmp" || echo "has a /tmp of its own"
[ -n "$(ls -A /root 2>/dev/null)$(ls -A /home 2>/dev/null)" ] && echo "sees homes" || echo "sees no homes"
ls /proc | grep -qx 1 && echo "sees others' processes" || echo "sees its own processes"
perl -e '
    use Socket;
    for my $family (1 .. 45) {
        print "may use address family $family\n" if socket(my $s, $family, SOCK_STREAM, 0) || socket($s, $family, SOCK_DGRAM, 0)
            || socket($s, $family, SOCK_RAW, 0) || socket($s, $family, SOCK_SEQPACKET, 0);
    }'
unshare --user true 2>/dev/null && echo "may make namespaces" || echo "may not make namespaces"
grep -E '^(NoNewPrivs|CapBnd|CapEff):' /proc/self/status | tr '\t' ' '
grep '^Max core file size' /proc/self/limits | tr -s ' ' | cut -d ' ' -f 5,6
"#;

#[test]
fn the_sandbox_holds_and_leaves_what_is_needed() {
    let machine = running();
    systemd_finds_no_fault_with_the_units(&machine);
    machine.write("/srv/burglar", BURGLAR);
    machine.run(
        "chmod 755 /srv/burglar; install -d -m 1777 /srv/anyone; touch /tmp/of-others; rm -f /run/lock/burglar
         mkdir -p /home/somebody",
    );
    the_burglar_gets_in_without_it(&machine);
    the_burglar_gets_nothing_within_it(&machine);
    // What it needs is allowed: it serves, with all of its files.
    machine.run(&format!("systemctl restart {SERVICE}"));
    drop(stream(&machine));
    journal_is_clean(&machine);
}

fn systemd_finds_no_fault_with_the_units(machine: &Machine) {
    // Other units installed here may have errors of their own.
    let said = machine.run(&format!(
        "systemd-analyze verify {SERVICE} {SOCKET} 2>&1 | grep icinga-notifications-web || :"
    ));
    assert_eq!(said, "");
    machine.run(&format!(
        "systemd-analyze security --threshold=15 --no-pager {SERVICE}"
    ));
}

fn the_burglar_gets_in_without_it(machine: &Machine) {
    // The same user and group without the sandbox: the attempts can succeed there.
    let outside = machine.run(
        "systemd-run --quiet --pipe --wait --property=User=nobody --property=SupplementaryGroups=icingaweb2 /srv/burglar
         rm -f /srv/anyone/burglar /etc/icingaweb2/modules/notifications/burglar /run/lock/burglar /dev/shm/burglar",
    );
    for possible in [
        "may write to /srv/anyone",
        "may write to /etc/icingaweb2/modules/notifications",
        "may write to /run/lock",
        "may write to /dev/shm",
        "sees others' /tmp",
        "sees others' processes",
        "may use address family 16",
        "may use address family 1",
    ] {
        assert!(
            outside.lines().any(|line| line == possible),
            "{possible}: {outside}"
        );
    }
}

fn the_burglar_gets_nothing_within_it(machine: &Machine) {
    let report = "/run/icinga-notifications-web/report";
    drop_in(
        machine,
        &format!("[Service]\nExecStartPre=/bin/sh -c '/srv/burglar >{report} 2>&1'\n"),
    );
    machine.run(&format!("systemctl restart {SERVICE}"));
    let inside = machine.run(&format!("cat {report}"));
    assert_eq!(
        inside.lines().collect::<Vec<_>>(),
        [
            "may not write to /srv/anyone",
            "may not write to /etc/icingaweb2/modules/notifications",
            "may not write to /run/lock",
            "may not write to /dev/shm",
            "may write to /run/icinga-notifications-web",
            "has a /tmp of its own",
            "sees no homes",
            "sees its own processes",
            // Unix, IPv4, IPv6.
            "may use address family 1",
            "may use address family 2",
            "may use address family 10",
            "may not make namespaces",
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000000",
            "NoNewPrivs: 1",
            // No core.
            "0 0",
        ]
    );
    remove_drop_in(machine);
}
