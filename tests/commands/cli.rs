//! The command line: flags, help, and exit codes.

use std::process::Command;

use crate::common::command::Said;
use crate::common::daemon::ConfigDir;

#[test]
fn the_directory_comes_from_the_flag_or_the_environment() {
    let config = ConfigDir::new("port = 1234", "");
    let said = Said::with(&config, &[]);
    assert_eq!(said.code, Some(2), "{said}");
    let said = Said::by(
        Command::new(env!("CARGO_BIN_EXE_icinga-desktop-bridge"))
            .args(["check", "--config-only"])
            .env_clear()
            .env("ICINGAWEB_CONFIGDIR", config.path()),
    );
    assert!(said.stdout.contains("daemon.port = 1234"), "{said}");
}

#[test]
fn help_and_version_are_there_and_wrong_usage_is_2() {
    let config = ConfigDir::new("", "");
    let help = Said::with(&config, &["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "run",
        "check",
        "check-health",
        "send-test",
        "explain",
        "--config-dir",
        "--verbose",
        "--debug",
        "78",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let version = Said::with(&config, &["--version"]);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")));
    for arguments in [
        &["--nonsense"][..],
        &["nonsense"],
        &["run", "nonsense"],
        &["send-test"],
        &["explain"],
    ] {
        let said = Said::with(&config, arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}");
    }
}
