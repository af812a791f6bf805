//! The Ansible role: it does the same as the manual's steps, and nothing when run again.

use std::path::Path;
use std::sync::Arc;

use super::deb::{next_version, start_web_modules_daemon, web_module};
use super::steps::*;
use crate::common::packages::Packages;
use crate::common::systemd::Machine;

/// Where the playbook is in the machine.
const PLAYBOOK: &str = "/srv/sources/packaging/ansible";
/// The directory of ansible-core, which tests/run.sh fetches.
pub(super) const ANSIBLE: &str = "target/ansible";

const NGINX_SITE: &str = "/etc/nginx/sites-enabled/icingaweb2";
const APACHE_SITE: &str = "/etc/apache2/sites-enabled/icingaweb2.conf";

#[test]
fn the_role_installs_upgrades_and_repairs_and_the_second_time_changes_nothing() {
    let machine = Arc::new(Machine::boot());
    assert!(
        Path::new(ANSIBLE).is_dir(),
        "{ANSIBLE} is missing: /usr/bin/python3 -m pip install --target {ANSIBLE} ansible-core"
    );
    machine.put_tree(&["packaging/ansible", ANSIBLE], "/srv/sources");
    start_database(&machine);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let web = machine.put(&web_module(directory.path(), "1.0"));
    start_web_modules_daemon(&machine, &web);
    start_proxies(&machine);

    let packaged = &Packages::built().deb;
    let deb = machine.put(packaged);
    assert_ne!(changes_of(&machine, &deb), 0);
    assert!(!php_daemon_listens(&machine));
    for port in [80, 8080] {
        an_event_arrives_at(&machine, port);
    }
    assert_eq!(changes_of(&machine, &deb), 0);

    let next = machine.put(&next_version(directory.path(), packaged));
    let running = Running::now(&machine);
    sql(
        &machine,
        "notifications",
        "-c 'DROP TRIGGER icinga_desktop_bell ON incident_history'",
    );
    assert_ne!(changes_of(&machine, &next), 0);
    running.was_upgraded(&machine);
    machine.run("icinga-desktop-bridge check");
    assert_eq!(changes_of(&machine, &next), 0);
}

/// Runs the playbook and returns how many changes it reports.
fn changes_of(machine: &Machine, package: &str) -> usize {
    machine.write(
        "/srv/inventory",
        &format!(
            "[icingaweb]\nlocalhost ansible_connection=local ansible_become_method=su\n[icingaweb:vars]\n\
             icinga_desktop_bridge_package={package}\nicinga_desktop_bridge_nginx_site={NGINX_SITE}\n\
             icinga_desktop_bridge_apache_site={APACHE_SITE}\n"
        ),
    );
    let said = machine.run(&format!(
        "cd {PLAYBOOK}; export PYTHONPATH=/srv/sources/{ANSIBLE}
         /usr/bin/python3 -m ansible playbook --diff -i /srv/inventory site.yml 2>&1"
    ));
    let recap = said.lines().last().expect("a recap");
    let (_, changed) = recap.split_once("changed=").expect(&said);
    let changed = changed.split(' ').next().expect("a number");
    changed.parse().expect("a number")
}

/// nginx on port 80 and Apache on 8080, without a daemon behind them.
fn start_proxies(machine: &Machine) {
    machine.write(
        NGINX_SITE,
        "server {\n    listen 127.0.0.1:80;\n    server_name monitoring.example.com;\n}\n",
    );
    machine.write(
        APACHE_SITE,
        "<VirtualHost *:8080>\n    ServerName monitoring.example.com\n</VirtualHost>\n",
    );
    machine.run(
        "rm -f /etc/nginx/sites-enabled/default /etc/apache2/sites-enabled/000-default.conf
         echo 'Listen 127.0.0.1:8080' >/etc/apache2/ports.conf
         systemctl start nginx.service apache2.service",
    );
}

fn an_event_arrives_at(machine: &Machine, port: u16) {
    let path = URL.split_once(":9001").expect("its port").1;
    let tab = tab_at(machine, &format!("http://127.0.0.1:{port}{path}"));
    let sent = machine.run("icinga-desktop-bridge send-test anna");
    assert!(sent.contains("received the test notification"), "{sent}");
    tab.wait_for("event: icinga2.notification");
}
