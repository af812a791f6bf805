//! The package in a booted systemd, with a real PostgreSQL beside it: what the units and the maintainer scripts promise.
//!
//! Each test has a machine that is led through its life: most steps need what the one before left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::common::packages::Packages;
use crate::common::sse::AGENT;
use crate::common::systemd::{Lines, Machine};

const SERVICE: &str = "icinga-notifications-web.service";
const SOCKET: &str = "icinga-notifications-web.socket";
const URL: &str = "http://127.0.0.1:9001/icingaweb2/notifications/v1/subscribe";
const CONFIG: &str = "/etc/icingaweb2/modules/notifications/config.ini";
const SESSION_ID: &str = "session-of-anna-0123456789";
/// The daemon's role, as the manual calls it.
const ROLE: &str = "icingaweb2";

/// Installs a package file and returns what that printed.
fn install(machine: &Machine, deb: &str) -> String {
    machine.run(&format!(
        "DEBIAN_FRONTEND=noninteractive dpkg -i {deb} 2>&1"
    ))
}

/// Writes the configuration, as Icinga Web would. `database` names the server's host.
fn configure(machine: &Machine, daemon: &str, database: &str) {
    machine.write(
        CONFIG,
        &format!("[daemon]\n{daemon}\n[database]\nresource = \"notifications\"\n"),
    );
    machine.write(
        "/etc/icingaweb2/resources.ini",
        &format!(
            "[notifications]\ntype = \"db\"\ndb = \"pgsql\"\nhost = \"{database}\"\ndbname = \"notifications\"\n\
             username = \"{ROLE}\"\npassword = \"secret-of-the-bridge\"\n"
        ),
    );
    machine.run(
        "chown -R root:icingaweb2 /etc/icingaweb2
         find /etc/icingaweb2 -type d -exec chmod 2770 {} +
         find /etc/icingaweb2 -type f -exec chmod 0660 {} +",
    );
}

/// Starts PostgreSQL, with Icinga Notifications' tables and a signed-in user, but without the triggers.
fn start_database(machine: &Machine) {
    machine.run("mkdir -p /root/fixtures");
    for schema in ["schema-0.1.sql", "schema-1.0.sql"] {
        let text = fs::read_to_string(Path::new("tests/fixtures").join(schema)).expect(schema);
        machine.write(&format!("/srv/fixtures/{schema}"), &text);
    }
    machine.run(
        r#"
        bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
        install -d -o postgres -g postgres /run/postgresql /srv/database
        runuser -u postgres -- "$bin/initdb" -D /srv/database -A trust -E UTF8 --no-locale --no-sync >/srv/initdb.log
        systemd-run --quiet --unit=database --property=Type=notify --uid=postgres \
            "$bin/postgres" -D /srv/database -k /run/postgresql -c fsync=off
        "#,
    );
    sql(
        machine,
        "postgres",
        &format!("-c 'CREATE DATABASE notifications' -c 'CREATE ROLE {ROLE} LOGIN'"),
    );
    sql(machine, "notifications", "-f /srv/fixtures/schema-1.0.sql");
    sql(
        machine,
        "notifications",
        &format!(
            "-c \"INSERT INTO contact (full_name, username, default_channel_id, changed_at) VALUES ('Anna', 'anna', 1, 1);
              INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at)
              VALUES ('{SESSION_ID}', 'anna', '{AGENT}', extract(epoch FROM now())::bigint * 1000)\""
        ),
    );
}

/// What the administrator does once, with what the package holds.
fn install_triggers(machine: &Machine) {
    let scripts = "/usr/share/icinga-desktop-bridge/sql";
    sql(
        machine,
        "notifications",
        &format!("-f {scripts}/install.sql"),
    );
    sql(
        machine,
        "notifications",
        &format!("-v role={ROLE} -f {scripts}/grants.sql"),
    );
}

fn sql(machine: &Machine, database: &str, arguments: &str) {
    machine.run(&format!(
        "cd /; runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -h /run/postgresql -d {database} {arguments}"
    ));
}

/// Opens a browser's stream; the answer's head comes first.
fn subscribe(machine: &Machine) -> Lines {
    let mut curl = machine.command("curl");
    curl.args([
        "--silent",
        "--no-buffer",
        "--include",
        "--user-agent",
        AGENT,
    ])
    .args(["--cookie", &format!("Icingaweb2={SESSION_ID}"), URL]);
    machine.spawn(curl)
}

/// Opens a stream, which must be let in, and reads its first block.
fn stream(machine: &Machine) -> Lines {
    let stream = subscribe(machine);
    stream.wait_for("HTTP/1.1 200");
    stream.wait_for("retry:");
    stream
}

/// What curl says of one request, as exit code and status.
fn request(machine: &Machine) -> String {
    machine.run(&format!(
        "curl -s -o /dev/null -w '%{{http_code}}' --max-time 30 {URL} || echo \" curl: $?\""
    ))
}

/// Keeps asking without a cookie, which is answered 204, and notes every other answer.
struct Visitors {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(usize, Vec<String>)>>,
}

impl Visitors {
    fn of(machine: &Arc<Machine>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (machine, stopped) = (Arc::clone(machine), Arc::clone(&stop));
        let (begun, first) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut count, mut unhappy) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let answer = request(&machine);
                count += 1;
                if answer != "204" {
                    unhappy.push(answer);
                }
                let _ = begun.send(());
            }
            (count, unhappy)
        });
        first.recv().expect("a first answer");
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Asserts that all of them were served.
    fn were_served(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, unhappy) = self.thread.take().expect("once").join().expect("a thread");
        assert_eq!(unhappy, [""; 0], "of {count} requests");
        assert!(count > 1, "only {count} requests");
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A running service, before an upgrade.
struct Running {
    process: String,
    socket_opened: String,
}

impl Running {
    fn now(machine: &Machine) -> Self {
        Self {
            process: main_pid(machine),
            socket_opened: machine.show(SOCKET, "ActiveEnterTimestampMonotonic"),
        }
    }

    /// Asserts that it goes on as another process behind the same socket.
    fn was_upgraded(self, machine: &Machine) {
        assert_ne!(main_pid(machine), self.process);
        assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
        assert_eq!(
            machine.show(SOCKET, "ActiveEnterTimestampMonotonic"),
            self.socket_opened
        );
        drop(stream(machine));
    }
}

fn main_pid(machine: &Machine) -> String {
    machine.show(SERVICE, "MainPID")
}

/// What the service has logged since it was last asked to forget: `PRIORITY MESSAGE` of each line.
fn journal(machine: &Machine) -> String {
    machine.run(&format!(
        "journalctl --sync; journalctl --no-pager --unit {SERVICE} --output json |
         perl -ne 'print \"$1 \" if /\"PRIORITY\":\"(\\d)\"/; print \"$1\\n\" if /\"MESSAGE\":\"((?:[^\"\\\\]|\\\\.)*)\"/'"
    ))
}

fn drop_in(machine: &Machine, text: &str) {
    machine.write(&format!("/etc/systemd/system/{SERVICE}.d/test.conf"), text);
    machine.run("systemctl daemon-reload");
}

fn remove_drop_in(machine: &Machine) {
    machine.run(&format!(
        "rm -r /etc/systemd/system/{SERVICE}.d; systemctl daemon-reload"
    ));
}

fn is_root() -> bool {
    let root = fs::read_link("/proc/self").is_ok()
        && Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|id| id.stdout == b"0\n");
    if !root {
        eprintln!("not root: no machine can be booted, run this test as root");
    }
    root
}

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

fn the_sandbox_holds(machine: &Machine) {
    machine.write("/srv/burglar", BURGLAR);
    machine.run(
        "chmod 755 /srv/burglar; install -d -m 1777 /srv/anyone; touch /tmp/of-others; rm -f /run/lock/burglar
         mkdir -p /home/somebody",
    );
    // The same user and group without the sandbox: what is asked can be answered otherwise.
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
    machine.run(&format!("systemctl restart {SERVICE}"));
    // And what it needs, it may: it serves, with all of its files.
    drop(stream(machine));
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

/// A package like the web module's: it has a unit of our name, for a daemon that holds our port.
fn web_module(directory: &Path, version: &str) -> PathBuf {
    let tree = directory.join(version);
    // Where Debian 12's own packages have them.
    let units = tree.join("lib/systemd/system");
    fs::create_dir_all(&units).expect("directories");
    fs::write(
        units.join(SERVICE),
        "[Service]\nExecStart=/usr/bin/perl -MIO::Socket::INET -e \
         'IO::Socket::INET->new(LocalPort => 9001, Listen => 1, ReuseAddr => 1) or die; sleep'\n\
         [Install]\nWantedBy=multi-user.target\n",
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
fn repack(tree: &Path, control: &str, deb: PathBuf) -> PathBuf {
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
fn next_version(directory: &Path, deb: &Path) -> PathBuf {
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

/// All that a package could leave behind, but for dpkg's own books and caches.
fn written(machine: &Machine) -> BTreeSet<PathBuf> {
    let of_others = [
        "var/lib/dpkg",
        "var/cache",
        "var/log",
        "srv/database",
        "var/lib/rpm",
        "var/lib/systemd/catalog",
        // The other package's unit is disabled with ours.
        "etc/systemd/system/multi-user.target.wants",
    ];
    let mut written = machine.written();
    written.retain(|file| !of_others.iter().any(|other| file.starts_with(other)));
    written
}

#[test]
fn the_package_comes_is_upgraded_and_goes() {
    if !is_root() {
        return;
    }
    let packages = Packages::built();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let machine = Arc::new(Machine::boot());
    start_database(&machine);
    let web = machine.put(&web_module(directory.path(), "1.0"));
    let newer_web = machine.put(&web_module(directory.path(), "1.1"));
    let next = machine.put(&next_version(directory.path(), &packages.deb));
    let deb = machine.put(&packages.deb);

    install(&machine, &web);
    machine.run(&format!(
        "systemctl daemon-reload; systemctl enable --quiet --now {SERVICE}"
    ));
    // Created by the package otherwise, and left, as Debian's packages leave groups.
    machine.run("groupadd --system icingaweb2");
    configure(&machine, "", "/run/postgresql");
    let before = written(&machine);
    let php = main_pid(&machine);

    // Installed: enabled, but what runs goes on running, because ours could not serve anybody yet.
    let said = install(&machine, &deb);
    assert!(said.contains("sql/install.sql"), "{said}");
    assert_eq!(main_pid(&machine), php);
    assert_eq!(
        machine.run(&format!("systemctl is-enabled {SERVICE} {SOCKET}")),
        "enabled\nenabled"
    );
    assert_eq!(
        machine.show(SERVICE, "Description"),
        "Icinga Notifications desktop bridge (PostgreSQL NOTIFY to Server-Sent Events)"
    );
    // The other's unit does not come back over ours.
    install(&machine, &newer_web);
    machine.run(&format!(
        "grep -q icinga-desktop-bridge /usr/lib/systemd/system/{SERVICE}"
    ));

    // The administrator does what it said.
    install_triggers(&machine);
    machine.run(&format!(
        "systemctl stop {SERVICE}; systemctl start {SOCKET} {SERVICE}"
    ));
    drop(stream(&machine));

    // Upgraded: another process, the same socket, and nobody is refused.
    let running = Running::now(&machine);
    let visitors = Visitors::of(&machine);
    let open = stream(&machine);
    install(&machine, &next);
    visitors.were_served();
    let farewell = open.rest();
    assert!(
        farewell.iter().any(|line| line.starts_with("retry:")),
        "{farewell:?}"
    );
    running.was_upgraded(&machine);

    // What was stopped on purpose stays stopped.
    machine.run(&format!("systemctl stop {SOCKET} {SERVICE}"));
    install(&machine, &next);
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    machine.run(&format!("systemctl start {SOCKET} {SERVICE}"));

    // Removed: stopped, and the other's unit is back.
    machine.run("dpkg --remove icinga-desktop-bridge 2>&1");
    assert!(
        request(&machine).contains("curl: 7"),
        "the port is still open"
    );
    assert_eq!(machine.show(SERVICE, "ActiveState"), "inactive");
    machine.run(&format!(
        "grep -q perl /lib/systemd/system/{SERVICE}; systemctl restart {SERVICE}"
    ));

    // Purged: as if it had never been there.
    machine.run("dpkg --purge icinga-desktop-bridge 2>&1");
    let after = written(&machine);
    assert_eq!(
        after.difference(&before).collect::<Vec<_>>(),
        Vec::<&PathBuf>::new()
    );
    machine.run("! ls -d /run/icinga-notifications-web /run/systemd/system/icinga-* 2>/dev/null");
    assert_eq!(machine.run("dpkg-divert --list '*icinga*'"), "");
    machine.run("getent group icingaweb2");
}

/// The commands of a section of the README, its indented lines.
fn readme_commands(heading: &str) -> String {
    let readme = fs::read_to_string("README.md").expect("the README");
    let (_, section) = readme.split_once(heading).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    commands.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_readme_leads_from_nothing_to_an_event() {
    if !is_root() {
        return;
    }
    // Its first command is what this runs first, too.
    Packages::built();
    let machine = Machine::boot();
    start_database(&machine);
    // Of Icinga Web.
    machine.run("groupadd --system icingaweb2");
    configure(&machine, "", "/run/postgresql");
    machine.put_tree(
        &["sql", "packaging", "target/release/icinga-desktop-bridge"],
        "/srv/sources",
    );

    let commands = readme_commands("\n## Installing by hand\n");
    let (build, commands) = commands.split_once('\n').expect("several commands");
    assert_eq!(build, "cargo build --release --locked");
    let said = machine.run(&format!(
        "cd /srv/sources; export PGHOST=/run/postgresql PGUSER=postgres; umask 022\n{commands}"
    ));
    assert!(!said.contains("FAIL"), "{said}");
    for link in [
        "multi-user.target.wants/icinga-notifications-web.service",
        "sockets.target.wants/icinga-notifications-web.socket",
    ] {
        machine.run(&format!("test -L /etc/systemd/system/{link}"));
    }

    machine.write(
        "/srv/nginx.conf",
        "error_log stderr;\npid /srv/nginx.pid;\nevents {}\nhttp {\naccess_log off;\nserver {\nlisten 127.0.0.1:80;\n\
         include /usr/share/icinga-desktop-bridge/nginx/icinga-desktop-bridge.conf;\n}\n}\n",
    );
    machine.run(
        "systemd-run --quiet --unit=nginx-of-test --property=Type=forking --property=PIDFile=/srv/nginx.pid \
         /usr/sbin/nginx -c /srv/nginx.conf",
    );
    let through_proxy = "http://127.0.0.1/icingaweb2/notifications/v1/subscribe";
    let mut curl = machine.command("curl");
    curl.args(["-sN", "-A", AGENT, "-b"])
        .args([&format!("Icingaweb2={SESSION_ID}"), through_proxy]);
    let stream = machine.spawn(curl);
    stream.wait_for("retry: 3000");
    let sent = machine.run("icinga-desktop-bridge send-test anna");
    assert!(
        sent.contains("ok    1 stream got the test notification"),
        "{sent}"
    );
    stream.wait_for("event: icinga2.notification");
    stream.wait_for("data: {");
}

#[test]
fn the_rpm_comes_is_upgraded_and_goes() {
    if !is_root() {
        return;
    }
    let packages = Packages::built();
    let machine = Machine::boot();
    start_database(&machine);
    let rpm = machine.put(&packages.rpm);
    // What it needs is there, but in Debian's packages, whose rpm says what it is not for.
    let run = |how: &str| machine.run(&format!("rpm --force-debian --nodeps {how} 2>&1"));
    machine.run("rpm --initdb; mkdir -p /usr/share/licenses");
    let before = written(&machine);

    // The scripts are silent where nothing is wrong; nothing is started.
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

    // An upgrade, to the same: another process, the same socket.
    assert_eq!(run(&format!("--upgrade --force {rpm}")), "");
    running.was_upgraded(&machine);

    // Nothing is left but the configuration, which is Icinga Web's, and the group.
    assert_eq!(run("--erase icinga-desktop-bridge"), "");
    assert!(
        request(&machine).contains("curl: 7"),
        "the port is still open"
    );
    assert_eq!(machine.show(SERVICE, "LoadState"), "not-found");
    let mut after = written(&machine);
    let kept = [
        "etc/icingaweb2",
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
