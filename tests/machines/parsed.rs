//! Every file below `packaging/` is parsed by its program.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use icinga_desktop_bridge::config::Config;
use serde_json::Value;

use super::ansible::ANSIBLE;
use super::contents::output;
use super::director::director_imports;
use crate::common::apache::Apache;
use crate::common::command::Said;
use crate::common::icinga2::icinga2;
use crate::common::nginx::Nginx;
use crate::common::prometheus::promtool;

/// Lets a file's program parse it, and fails if that reports anything. `false` if no program is known.
fn is_parsed(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).expect("a name");
    let directory = file.strip_prefix("packaging").expect("below it").parent();
    match (directory.and_then(Path::to_str).expect("UTF-8"), name) {
        ("nginx", "icinga-desktop-bridge.conf" | "icinga-desktop-bridge-limits.conf") => {
            drop(Nginx::shipped())
        }
        ("nginx", "icinga-desktop-bridge-upstream.conf") => drop(Nginx::for_several()),
        ("apache", "icinga-desktop-bridge.conf" | "icinga-desktop-bridge-limits.conf") => {
            drop(Apache::including("icinga-desktop-bridge.conf"));
        }
        ("apache", "icinga-desktop-bridge-several.conf") => drop(Apache::including(name)),
        ("apache", "away.asis") => apache_sends(file),
        ("icinga", "desktop-bridge.conf") => icinga_takes(file),
        ("icinga", "director-basket.json") => director_imports(file),
        ("prometheus", _) if name.ends_with(".rules.yml") => {
            promtool(&[
                "check",
                "rules",
                "--lint=all",
                "--lint-fatal",
                file.to_str().expect("UTF-8"),
            ]);
        }
        ("grafana", _) if name.ends_with(".json") => is_of_grafanas_types(file),
        ("systemd", _) => systemd_takes(file),
        ("deb", "copyright") => dpkg_reads(file),
        ("deb", "preinst" | "postinst" | "prerm" | "postrm") => shells_read(file),
        ("", "config.ini.example") => the_daemon_takes(file),
        ("" | "rpm", _) if name.ends_with(".sh") => shells_read(file),
        // For people.
        ("ansible", "README.md") => {}
        (of_role, _) if of_role.starts_with("ansible") && name.ends_with(".yml") => {
            ansible_reads(file);
        }
        _ => return false,
    }
    true
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_file_is_parsed_by_the_program_that_it_is_for() {
    let mut found = Vec::new();
    files(Path::new("packaging"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.retain(|file| !is_parsed(file));
    assert!(
        found.is_empty(),
        "nothing parses {found:?}: say here what does"
    );
}

/// The shell of Debian, and the one of distributions with rpm.
fn shells_read(script: &Path) {
    for shell in ["dash", "bash"] {
        output(Command::new(shell).arg("-n").arg(script));
    }
}

/// A separate file of tasks. The playbook reads the role's other files.
fn ansible_reads(file: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut playbook = PathBuf::from("packaging/ansible/site.yml");
    if file
        .parent()
        .is_some_and(|parent| parent.ends_with("tasks"))
    {
        playbook = directory.path().join("tasks.yml");
        let tasks = file.canonicalize().expect("a path");
        let import = format!(
            "- hosts: all\n  tasks:\n    - ansible.builtin.import_tasks: {}\n",
            tasks.display()
        );
        fs::write(&playbook, import).expect("a playbook");
    }
    let mut ansible = Command::new("/usr/bin/python3");
    ansible
        .args(["-m", "ansible", "playbook", "--syntax-check", "-i"])
        .args(["localhost,".as_ref(), playbook.as_os_str()])
        .env("PYTHONPATH", ANSIBLE)
        .env("ANSIBLE_HOME", directory.path())
        .env("LC_ALL", "C.UTF-8");
    let said = Said::by(&mut ansible);
    assert_eq!(said.code, Some(0), "{}: {said}", file.display());
}

/// Its checker reports nothing about the unit and those it belongs to.
fn systemd_takes(unit: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir("packaging/systemd").expect("units") {
        let path = entry.expect("an entry").path();
        // It checks that the program exists.
        let text = fs::read_to_string(&path).expect("a unit");
        let text = text.replace(
            "/usr/bin/icinga-desktop-bridge",
            env!("CARGO_BIN_EXE_icinga-desktop-bridge"),
        );
        fs::write(
            directory.path().join(path.file_name().expect("a name")),
            text,
        )
        .expect("a unit");
    }
    let unit = directory.path().join(unit.file_name().expect("a name"));
    let said = output(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(unit),
    );
    assert_eq!(said, "");
}

/// dpkg's own parser finds the paragraphs that the format requires.
fn dpkg_reads(copyright: &Path) {
    let reader = r#"
        open(my $file, '<', $ARGV[0]) or die $!;
        while ((my $paragraph = Dpkg::Control::HashCore->new())->parse($file, $ARGV[0])) {
            print join(' ', sort keys %$paragraph), "\n";
        }"#;
    let paragraphs = output(
        Command::new("perl")
            .args(["-MDpkg::Control::HashCore", "-e", reader])
            .arg(copyright),
    );
    assert_eq!(
        paragraphs,
        "Format Upstream-Name\nCopyright Files License\nLicense\nLicense\n"
    );
}

fn the_daemon_takes(example: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let module = directory.path().join("modules/notifications");
    fs::create_dir_all(&module).expect("directories");
    let example = fs::read_to_string(example).expect("the example");
    fs::write(
        module.join("config.ini"),
        format!("{example}resource = x\n"),
    )
    .expect("config.ini");
    fs::write(
        directory.path().join("resources.ini"),
        "[x]\ntype = \"db\"\ndb = \"pgsql\"\n",
    )
    .expect("resources.ini");
    let loaded = Config::load(directory.path(), &|_| None).expect("a good configuration");
    assert_eq!(loaded.warnings, [""; 0]);
}

/// Icinga 2 itself makes a service of it, without a warning.
fn icinga_takes(configuration: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(configuration).expect("the configuration");
    let vars = "vars.desktop_bridge_warning = 0.5";
    let said = Said::by(icinga2(directory.path(), &text, vars, "").arg("--validate"));
    assert_eq!(said.code, Some(0), "{said}");
    let text = said.to_string();
    assert!(
        text.contains("Instantiated 1 Service.") && !text.contains("warning/"),
        "{text}"
    );
}

/// Apache sends it instead of a daemon that does not run, with the status in the file, and without its header lines as text.
fn apache_sends(asis: &Path) {
    let apache = Apache::start(&format!(
        "127.0.0.1:{}",
        crate::common::postgres::free_port()
    ));
    let url = format!(
        "http://{}/icingaweb2/notifications/v1/subscribe",
        apache.address
    );
    let sent = output(Command::new("curl").args(["--silent", "--include", &url]));
    let (head, body) = sent.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{sent}");
    let file = fs::read_to_string(asis).expect("the file");
    assert!(
        file.ends_with(&format!("\n\n{body}")) && body.contains("retry:"),
        "{sent}"
    );
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON")
}

/// The directory of Grafana's types, and of their dependencies from `npm`.
const TYPES: &str = "tests/grafana";

/// Grafana itself is not in the registries that tests may use. Its types are, and its own panels are compiled against them: the
/// compiler finds unknown keys, missing ones and wrong values.
fn is_of_grafanas_types(dashboard: &Path) {
    let compiler = Path::new(TYPES).join("node_modules/.bin/tsc");
    let missing = format!("no {}: npm ci --prefix {TYPES}", compiler.display());
    assert!(compiler.exists(), "{missing}");
    let dashboard = json(dashboard);
    // A literal of each type: in other expressions the compiler accepts unknown keys.
    let mut code = format!(
        "import type {{ Panels, Query, Whole }} from \"{}/{TYPES}/plain\";\nconst whole: Whole = {dashboard};\n",
        env!("CARGO_MANIFEST_DIR")
    );
    for (index, panel) in dashboard["panels"]
        .as_array()
        .expect("panels")
        .iter()
        .enumerate()
    {
        let kind = format!("Panels[{}]", panel["type"]);
        let custom = panel.pointer("/fieldConfig/defaults/custom");
        for (name, kind, value) in [
            (
                "options",
                format!("{kind}[\"options\"]"),
                panel.get("options"),
            ),
            ("custom", format!("{kind}[\"custom\"]"), custom),
            (
                "targets",
                "Query[] | undefined".to_owned(),
                panel.get("targets"),
            ),
        ] {
            let value = value.map_or("undefined".to_owned(), Value::to_string);
            writeln!(code, "const {name}{index}: {kind} = {value};").expect("memory");
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("dashboard.ts");
    fs::write(&file, code).expect("a file");
    let said = Said::by(
        Command::new(compiler)
            .args([
                "--noEmit", "--strict", "--target", "es2022", "--module", "esnext",
            ])
            .args(["--moduleResolution", "bundler"])
            .arg(&file),
    );
    assert_eq!(said.code, Some(0), "{said}");
}
