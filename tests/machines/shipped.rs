//! Files that are shipped unchanged from the sources: what they promise. `parsed.rs` tests that programs can read them.

use std::fs;
use std::process::Command;

use super::contents::output;
use icinga_desktop_bridge::config::{Config, Loaded};

fn load(config: &str) -> Loaded {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let module = directory.path().join("modules/notifications");
    fs::create_dir_all(&module).expect("directories");
    fs::write(module.join("config.ini"), config).expect("config.ini");
    fs::write(
        directory.path().join("resources.ini"),
        "[notifications]\ntype = \"db\"\ndb = \"pgsql\"\n",
    )
    .expect("resources.ini");
    Config::load(directory.path(), &|_| None).expect("a good configuration")
}

#[test]
fn the_example_configuration_says_the_defaults() {
    let example = fs::read_to_string("packaging/config.ini.example").expect("the example");
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix(';') {
            // Text begins with a space.
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let Loaded { config, warnings } = load(&uncommented);
    assert_eq!(warnings, [""; 0]);
    let defaults = load("[database]\nresource = notifications\n").config;
    assert_eq!(config, defaults);
    // Unchanged, it has no effect except for the resource, which has no default.
    let commented = load(&format!("{example}resource = notifications\n"));
    assert_eq!(commented.config, defaults);
    for (name, _) in defaults.settings() {
        if let Some(key) = name.strip_prefix("daemon.") {
            assert!(
                example.contains(&format!("\n;{key} = \"")),
                "{key} is not in the example"
            );
        }
    }
}

#[test]
fn the_service_is_hardened() {
    // Offline: as written, whatever is installed here. In tenths.
    output(Command::new("systemd-analyze").args([
        "security",
        "--offline=true",
        "--threshold=15",
        "--no-pager",
        "packaging/systemd/icinga-notifications-web.service",
    ]));
}
