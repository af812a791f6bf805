//! The manual's statements about SELinux are true for a real policy: Debian's, compiled, as an enforcing host loads it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::contents::output;
use super::steps::commands;

/// The compiled policy.
fn policy() -> PathBuf {
    let compiled = fs::read_dir("/etc/selinux/default/policy")
        .expect("a policy (apt-get install selinux-policy-default)");
    compiled.last().expect("one").expect("an entry").path()
}

/// Rules of the policy: `allow SOURCE TARGET:CLASS PERMISSIONS; [ BOOLEAN ]:True`.
fn rules(arguments: &str) -> Vec<String> {
    let mut sesearch = Command::new("sesearch");
    let found = output(sesearch.args(arguments.split(' ')).arg(policy()));
    found.lines().map(str::to_owned).collect()
}

/// Whether the policy allows this in its default state: a rule that depends on a setting counts if that is on.
fn allows(source: &str, target: &str, class: &str, permission: &str) -> bool {
    let rules = rules(&format!(
        "-A -s {source} -t {target} -c {class} -p {permission}"
    ));
    rules.iter().any(|rule| match rule.split_once(" [ ") {
        Some((_, condition)) => is_on(condition.trim_end_matches(" ]:True")),
        None => true,
    })
}

fn is_on(boolean: &str) -> bool {
    let mut seinfo = Command::new("seinfo");
    seinfo.args(["-b", boolean, "-x"]).arg(policy());
    output(&mut seinfo).contains(&format!("bool {boolean} true;"))
}

/// The types of a port, the narrowest range last.
fn port_type(port: u16) -> Vec<String> {
    let mut seinfo = Command::new("seinfo");
    let found = output(seinfo.arg(format!("--portcon={port}")).arg(policy()));
    let tcp = found.lines().filter(|line| line.contains("portcon tcp"));
    tcp.map(|line| line.split(':').nth(2).expect("a type").to_owned())
        .collect()
}

#[test]
fn the_proxy_may_not_connect_until_it_is_allowed_to() {
    for (port, port_type) in [(9001, "tor_port_t"), (5664, "unreserved_port_t")] {
        assert!(!allows("httpd_t", port_type, "tcp_socket", "name_connect"));
        let by_boolean =
            "allow httpd_t port_type:tcp_socket name_connect; [ httpd_can_network_connect ]:True";
        let arguments = format!("-A -s httpd_t -t {port_type} -c tcp_socket -p name_connect");
        assert!(
            rules(&arguments).contains(&by_boolean.to_owned()),
            "{port}: {:?}",
            rules(&arguments)
        );
    }
    let narrow =
        "allow httpd_t http_port_t:tcp_socket name_connect; [ httpd_can_network_relay ]:True";
    assert!(
        rules("-A -s httpd_t -t http_port_t -c tcp_socket -p name_connect")
            .contains(&narrow.to_owned())
    );
    // Over a Unix socket neither helps.
    let over_socket = rules("-A -s httpd_t -t initrc_t -c unix_stream_socket -p connectto");
    assert_eq!(over_socket, [""; 0]);
    // The files that are included in its configuration.
    assert!(allows("httpd_t", "usr_t", "file", "read"));
}

#[test]
fn the_manual_adds_a_port_that_has_no_type_and_modifies_one_that_has() {
    let any = "unreserved_port_t".to_owned();
    let of_tor = port_type(9001);
    assert!(of_tor.contains(&"tor_port_t".to_owned()), "{of_tor:?}");
    assert_eq!(port_type(5664), [any]);
    let typed = commands("doc/security.md", "### SELinux");
    for command in [
        "setsebool -P httpd_can_network_connect on",
        "semanage port -m -t http_port_t -p tcp 9001",
        "semanage port -a -t http_port_t -p tcp 5664",
        "setsebool -P httpd_can_network_relay on",
    ] {
        assert!(typed.lines().any(|line| line == command), "{command}");
    }
}

#[test]
fn the_daemon_is_not_confined() {
    let transition = "type_transition init_t bin_t:process initrc_t;".to_owned();
    assert!(rules("-T -s init_t -t bin_t -c process").contains(&transition));
    // systemd opens the sockets of the socket unit, the daemon its own.
    for domain in ["init_t", "initrc_t"] {
        for port_type in ["tor_port_t", "unreserved_port_t"] {
            assert!(allows(domain, port_type, "tcp_socket", "name_bind"));
        }
    }
    assert!(allows("initrc_t", "etc_t", "file", "read"));
    assert!(allows(
        "initrc_t",
        "postgresql_port_t",
        "tcp_socket",
        "name_connect"
    ));
}

#[test]
fn files_are_where_the_policy_expects_them() {
    for (path, expected) in [
        ("/usr/bin/icinga-desktop-bridge", "bin_t"),
        (
            "/usr/lib/systemd/system/icinga-notifications-web.service",
            "systemd_unit_t",
        ),
        (
            "/etc/systemd/system/icinga-notifications-web.service",
            "systemd_unit_t",
        ),
        (
            "/usr/share/icinga-desktop-bridge/nginx/icinga-desktop-bridge.conf",
            "usr_t",
        ),
        ("/etc/icingaweb2/resources.ini", "etc_t"),
        ("/usr/sbin/nginx", "httpd_exec_t"),
        ("/usr/sbin/apache2", "httpd_exec_t"),
        ("/usr/sbin/httpd", "httpd_exec_t"),
    ] {
        let contexts = "/etc/selinux/default/contexts/files/file_contexts";
        let mut matchpathcon = Command::new("/usr/sbin/matchpathcon");
        let context = output(matchpathcon.args(["-n", "-f", contexts, path]));
        assert_eq!(
            context.trim(),
            format!("system_u:object_r:{expected}:s0"),
            "{path}"
        );
    }
}
