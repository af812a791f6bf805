//! The options, commands and keys in the manual exist, and no key is missing. Metrics are checked in `tests/bridge/monitoring.rs`,
//! links in `tests/properties/links.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::command::Said;
use crate::common::daemon::ConfigDir;
use clap::CommandFactory as _;
use icinga_desktop_bridge::cli::Cli;

/// README and every page in `doc`.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("doc")).expect("the manual") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            (path, text)
        })
        .collect()
}

/// The text between backticks, and indented lines.
fn code(text: &str) -> Vec<String> {
    let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
    // Spans may continue in the next line; a fenced block has none.
    let spans = text.split('`').skip(1).step_by(2);
    indented.chain(spans).map(str::to_owned).collect()
}

#[test]
fn every_option_and_command_of_the_program_that_is_named_exists() {
    let cli = Cli::command();
    let commands: BTreeSet<_> = cli.get_subcommands().map(|c| c.get_name()).collect();
    let of = |command: &clap::Command| -> Vec<String> {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        longs.map(str::to_owned).collect()
    };
    let mut options: BTreeSet<String> = cli.get_subcommands().flat_map(of).collect();
    options.extend(of(&cli));
    options.extend(["help".to_owned(), "version".to_owned()]);
    let mut named = 0;
    for (path, text) in pages() {
        for code in code(&text) {
            let mut words = code.split_whitespace();
            if words.next() != Some("icinga-desktop-bridge") {
                continue;
            }
            for (index, word) in words.enumerate() {
                let word = word.trim_end_matches([',', ';']);
                if let Some(option) = word.strip_prefix("--") {
                    assert!(options.contains(option), "{}: --{option}", path.display());
                    named += 1;
                } else if index == 0 {
                    assert!(commands.contains(word), "{}: {word}", path.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 10, "only {named} were found");
}

#[test]
fn every_key_of_the_daemon_is_in_the_manual_and_no_other() {
    let config = ConfigDir::new("", "dbname = x\nusername = x");
    let printed = Said::with(&config, &["check", "--config-only"]);
    let keys: BTreeSet<&str> = printed
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("daemon.")?.split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("doc/configure.md")).expect("the page");
    let table = page.split("## `").nth(1).expect("the first section");
    let named: BTreeSet<&str> = table
        .lines()
        .filter(|line| line.starts_with('|') && !line.contains("`[database]`"))
        .filter_map(|line| {
            line.split('|')
                .nth(2)?
                .trim()
                .strip_prefix('`')?
                .strip_suffix('`')
        })
        .collect();
    assert_eq!(named, keys);
}
