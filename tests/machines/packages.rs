//! What is shipped: the example configuration, the units, the man page, and what is in the packages. What the packages do
//! is in `systemd.rs`.

#[path = "../../examples/man.rs"]
mod man;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::packages::Packages;
use clap::CommandFactory as _;
use icinga_desktop_bridge::cli::Cli;
use icinga_desktop_bridge::config::{Config, Loaded};

/// Standard output of a command that must succeed and say nothing else.
fn output(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        status.success() && stderr.is_empty(),
        "{command:?}: {status}\n{stdout}\n{stderr}"
    );
    stdout.into_owned()
}

/// Runs a command on this input and returns all it says.
fn filtered(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut pipe = child.stdin.take().expect("piped");
    let text = input.to_owned();
    // Beside reading, because the pipe is smaller than the page.
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("it reads");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

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
    // As it stands it changes nothing either, but for the resource, which has no default.
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
fn the_man_page_renders_and_names_everything() {
    let page = man::page("2026-11-23").expect("a page");
    // Lines are as long as they are in the definition, and a command is not a title.
    let complaints: Vec<_> = filtered("mandoc", &["-T", "lint"], &page)
        .lines()
        .filter(|line| {
            !line.contains("input text line longer than 80 bytes")
                && !line.contains("lower case character in document title")
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(complaints, [""; 0]);
    let groff = filtered("groff", &["-man", "-Tutf8", "-ww", "-z", "-k"], &page);
    assert_eq!(groff, "");

    // As it is read; a line must not end within what is looked for.
    let text = filtered("mandoc", &["-T", "utf8", "-O", "width=400"], &page);
    let text = filtered("col", &["-b"], &text);
    let words: BTreeSet<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
        .collect();
    let mut cli = Cli::command();
    cli.build();
    let commands: Vec<_> = cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .collect();
    assert!(commands.len() >= 2);
    for command in &commands {
        assert!(words.contains(command.get_name()), "{}", command.get_name());
    }
    for argument in commands
        .iter()
        .flat_map(|command| command.get_arguments())
        .chain(cli.get_arguments())
        .filter(|argument| !argument.is_hide_set())
    {
        match argument.get_long() {
            Some(long) => assert!(words.contains(format!("--{long}").as_str()), "--{long}"),
            None => {
                let name = argument.get_id().as_str().to_uppercase();
                assert!(words.contains(name.as_str()), "{name}");
            }
        }
    }
    for heading in ["FILES", "EXIT STATUS", "SIGNALS", "ENVIRONMENT"] {
        assert!(
            text.lines().any(|line| line.trim_end() == heading),
            "{heading}"
        );
    }
    assert!(text.contains("icinga-desktop-bridge(8)"));
}

#[test]
fn the_service_is_hardened() {
    // Offline: as it is written, whatever is installed here. In tenths.
    output(Command::new("systemd-analyze").args([
        "security",
        "--offline=true",
        "--threshold=15",
        "--no-pager",
        "packaging/systemd/icinga-notifications-web.service",
    ]));
}

/// Files below a directory of the sources, as they are to be found below `installed`.
fn shipped(directory: &str, installed: &str, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect(directory) {
        let name = entry.expect("an entry").file_name();
        files.insert(format!("{installed}/{}", name.display()));
    }
}

fn expected(units: &str) -> BTreeSet<String> {
    let share = "/usr/share/icinga-desktop-bridge";
    let doc = "/usr/share/doc/icinga-desktop-bridge";
    let mut files = BTreeSet::from([
        "/usr/bin/icinga-desktop-bridge".to_owned(),
        "/usr/share/man/man8/icinga-desktop-bridge.8.gz".to_owned(),
        format!("{doc}/README.md"),
        format!("{doc}/changelog.gz"),
        format!("{doc}/examples/config.ini"),
    ]);
    shipped("sql", &format!("{share}/sql"), &mut files);
    shipped("packaging/nginx", &format!("{share}/nginx"), &mut files);
    shipped("packaging/apache", &format!("{share}/apache"), &mut files);
    shipped("packaging/icinga", &format!("{share}/icinga"), &mut files);
    shipped("doc", &format!("{doc}/doc"), &mut files);
    shipped("packaging/systemd", units, &mut files);
    files
}

#[test]
fn the_deb_holds_everything_and_lintian_finds_no_errors() {
    let deb = &Packages::built().deb;
    let listing = output(Command::new("dpkg-deb").arg("--contents").arg(deb));
    let files: BTreeSet<String> = listing
        .lines()
        .filter(|line| !line.starts_with('d'))
        .filter_map(|line| line.split_whitespace().last())
        .map(|path| path.trim_start_matches('.').to_owned())
        .collect();
    let mut expected = expected("/usr/lib/systemd/system");
    for name in ["copyright", "changelog.Debian.gz"] {
        expected.insert(format!("/usr/share/doc/icinga-desktop-bridge/{name}"));
    }
    assert_eq!(files, expected);
    let depends = output(
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(deb)
            .arg("Depends"),
    );
    assert!(depends.contains("libssl3"), "{depends}");
    // It leaves something there.
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let lintian = Command::new("lintian")
        .env("TMPDIR", temporary.path())
        .args(["--no-cfg", "--fail-on", "error"])
        .arg(deb)
        .output()
        .expect("lintian runs (apt-get install lintian)");
    assert!(
        lintian.status.success(),
        "{}{}",
        String::from_utf8_lossy(&lintian.stdout),
        String::from_utf8_lossy(&lintian.stderr)
    );
}

#[test]
fn the_rpm_holds_everything() {
    let rpm = &Packages::built().rpm;
    let query = |arguments: &[&str]| {
        output(
            Command::new("rpm")
                // Without a database of its own, which it would complain about.
                .args(["--dbpath", "/nonexistent", "--query", "--package"])
                .args(arguments)
                .arg(rpm),
        )
    };
    let files: BTreeSet<String> = query(&["--list"]).lines().map(str::to_owned).collect();
    let mut expected = expected("/etc/systemd/system");
    for name in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT"] {
        expected.insert(format!("/usr/share/licenses/icinga-desktop-bridge/{name}"));
    }
    assert_eq!(files, expected);
    let requires = query(&["--requires"]);
    for needed in ["libssl.so", "systemd >= 247"] {
        assert!(requires.contains(needed), "{requires}");
    }
}

#[test]
fn scripts_are_sound() {
    for directory in ["packaging/deb", "packaging/rpm", "packaging"] {
        for entry in fs::read_dir(directory).expect(directory) {
            let path = entry.expect("an entry").path();
            let is_script = path.is_file()
                && (directory == "packaging/deb" && path.extension().is_none()
                    || path.extension().is_some_and(|extension| extension == "sh"));
            if is_script && path != Path::new("packaging/deb/copyright") {
                output(Command::new("sh").arg("-n").arg(path));
            }
        }
    }
}
