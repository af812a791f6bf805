//! Icinga 2 itself, with the shipped configuration.

use std::path::Path;
use std::process::Command;

/// The shipped configuration for Icinga.
pub(crate) const SHIPPED: &str = "packaging/icinga/desktop-bridge.conf";

/// The user that runs this, or its group.
fn id(what: &str) -> String {
    let output = Command::new("id").arg(what).output().expect("id runs");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// Icinga with the shipped configuration, a host for it, and additional configuration in `configured`; it writes only into that
/// directory.
pub(crate) fn icinga2(directory: &Path, bridge: &str, vars: &str, configured: &str) -> Command {
    let program = "/usr/sbin/icinga2";
    assert!(
        Path::new(program).exists(),
        "no {program}: install icinga2-bin"
    );
    std::fs::write(directory.join("bridge.conf"), bridge).expect("bridge.conf");
    let configuration = directory.join("icinga2.conf");
    let host = format!(
        "include <itl>\nconst NodeName = \"test\"\n{configured}\n\
         object Host \"bridge1\" {{\n  check_command = \"dummy\"\n  vars.desktop_bridge = true\n{vars}\n}}\n\
         include \"{}\"\n",
        directory.join("bridge.conf").display()
    );
    std::fs::write(&configuration, host).expect("icinga2.conf");
    let mut command = Command::new(program);
    // As the user that runs this.
    command
        .env("ICINGA2_USER", id("-un"))
        .env("ICINGA2_GROUP", id("-gn"))
        .args(["daemon", "--config"])
        .arg(&configuration);
    for setting in ["DataDir", "CacheDir", "InitRunDir", "LogDir"] {
        command.args(["-D", &format!("{setting}={}", directory.display())]);
    }
    command
}
