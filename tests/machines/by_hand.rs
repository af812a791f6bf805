//! Installing by hand: the commands of the manual, as a reader types them.

use super::displaced::released_deb;
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::sse::AGENT;
use crate::common::systemd::Machine;

#[test]
fn the_manual_leads_from_nothing_to_an_event() {
    let machine = Machine::boot();
    // Its first command is also run first here.
    Packages::built();
    start_database(&machine);
    // Of Icinga Web.
    machine.run("groupadd --system icingaweb2");
    configure(&machine, "", "/run/postgresql");
    machine.put_tree(
        &["sql", "packaging", "target/release/icinga-desktop-bridge"],
        "/srv/sources",
    );

    let commands = commands("doc/install.md", "## Installing by hand");
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
    an_event_arrives_through_nginx(&machine);
}

/// With the shipped file where the manual puts it.
fn an_event_arrives_through_nginx(machine: &Machine) {
    machine.write(
        "/srv/nginx.conf",
        "error_log stderr;\npid /srv/nginx.pid;\nevents {}\nhttp {\naccess_log off;\nserver {\nlisten 127.0.0.1:80;\n\
         include /usr/share/icinga-desktop-bridge/nginx/icinga-desktop-bridge.conf;\n}\n}\n",
    );
    machine.run(
        "systemd-run --quiet --unit=nginx-of-test --property=Type=forking --property=PIDFile=/srv/nginx.pid \
         /usr/sbin/nginx -c /srv/nginx.conf",
    );
    let watch = commands("doc/troubleshoot.md", "## Following a stream by hand");
    let (start, end) = (watch.find("url="), watch.find("done"));
    let (start, end) = (start.expect("its loop"), end.expect("its end"));
    let watch = watch[start..end]
        .replace("https://monitoring.example.com", "http://127.0.0.1")
        .replace("Mozilla/5.0 …", AGENT)
        .replace("Icingaweb2=…", &format!("Icingaweb2={SESSION_ID}"));
    assert!(!watch.contains('…'), "{watch}");
    let mut sh = machine.command("sh");
    sh.args(["-c", &format!("cd /srv; {watch}\ndone")]);
    let stream = machine.spawn(sh);
    stream.wait_for("retry: 3000");
    let sent = machine.run("icinga-desktop-bridge send-test anna");
    assert!(
        sent.contains("ok    1 stream received the test notification"),
        "{sent}"
    );
    stream.wait_for("event: icinga2.notification");
    stream.wait_for("data: {");
}

/// The package of the PHP daemon stays, with the unit of the service's other name.
#[test]
fn the_unit_of_a_release_is_covered_while_ours_is_enabled() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let machine = Machine::boot();
    let released = machine.put(&released_deb(directory.path()));
    install(&machine, &released);
    wait_for_php_daemon(&machine, 5664);

    // As the manual says.
    machine.run(&format!("systemctl disable --quiet --now {ALIAS}"));
    machine.put_tree(&["packaging/systemd"], "/srv/sources");
    let description = |unit| machine.show(unit, "Description");
    machine.run(&format!(
        "install -m 644 /srv/sources/packaging/systemd/* /etc/systemd/system/; systemctl daemon-reload
         systemctl enable --quiet {SOCKET} {SERVICE}"
    ));
    assert_eq!(machine.show(ALIAS, "Id"), SERVICE);
    assert_eq!(description(ALIAS), description(SERVICE));
    // What the manual says about the PHP daemon's unit is also true for ours.
    let drop_in = format!("/etc/systemd/system/{ALIAS}.d/left.conf");
    machine.write(&drop_in, "[Service]\nUMask=0022\n");
    machine.run("systemctl daemon-reload");
    assert_eq!(machine.show(SERVICE, "DropInPaths"), drop_in);

    machine.run(&format!("systemctl disable --quiet {SOCKET} {SERVICE}"));
    assert_eq!(machine.show(ALIAS, "Id"), ALIAS);
    machine.run(&format!("systemctl enable --quiet --now {ALIAS}"));
    wait_for_php_daemon(&machine, 5664);

    // Enabled while it runs: it counts as the service's process, and is stopped like it.
    machine.run(&format!(
        "systemctl enable --quiet {SOCKET} {SERVICE}; systemctl stop {SERVICE}"
    ));
    assert!(!php_daemon_listens(&machine));
    assert_eq!(machine.show(SERVICE, "Result"), "success");
}
