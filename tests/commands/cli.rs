//! The command line: flags, help, and exit codes.

use std::process::Output;

use crate::common::daemon::ConfigDir;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_directory_comes_from_the_flag_or_the_environment() {
    let config = ConfigDir::new("port = 1234", "");
    let output = config.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_icinga-desktop-bridge"))
        .args(["check", "--config-only"])
        .env_clear()
        .env("ICINGAWEB_CONFIGDIR", config.path())
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("daemon.port = 1234"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_and_version_are_there_and_wrong_usage_is_2() {
    let config = ConfigDir::new("", "");
    let output = config.command(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "run",
        "check",
        "send-test",
        "--config-dir",
        "--verbose",
        "--debug",
        "78",
    ] {
        assert!(stdout(&output).contains(word), "{word}");
    }
    let output = config.command(&["--version"]).output().unwrap();
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
    for arguments in [&["--nonsense"][..], &["nonsense"], &["run", "nonsense"]] {
        let output = config.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
