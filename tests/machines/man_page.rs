//! The man page: it renders without warnings and names every option and command.

#[path = "../../examples/man.rs"]
mod man;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use icinga_desktop_bridge::cli::Cli;

/// Runs a command with this input and returns all its output.
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
    // While reading, because the pipe is smaller than the page.
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("it reads");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_man_page_renders_and_names_everything() {
    let page = man::page("2026-11-23").expect("a page");
    // Lines are as long as in the definition, and a command is not a title.
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

    // As rendered; a line must not end within a searched text.
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
