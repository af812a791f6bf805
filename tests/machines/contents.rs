//! The contents of the packages. `deb.rs` and `rpm.rs` test what they do.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use crate::common::packages::Packages;

/// Standard output of a command that must succeed without any other output.
pub(super) fn output(command: &mut Command) -> String {
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

/// The files of a source directory, as they must be below `installed`.
fn shipped(directory: &str, installed: &str, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect(directory) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").display();
        let installed = format!("{installed}/{name}");
        if path.is_dir() {
            shipped(&format!("{directory}/{name}"), &installed, files);
        } else {
            files.insert(installed);
        }
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
        format!("{doc}/icinga-desktop-bridge.cdx.json"),
    ]);
    shipped("sql", &format!("{share}/sql"), &mut files);
    for kind in ["nginx", "apache", "icinga", "grafana", "prometheus"] {
        let installed = format!("{share}/{kind}");
        shipped(&format!("packaging/{kind}"), &installed, &mut files);
    }
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
                // Without its own database, which it would complain about.
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

/// For a scanner that reads the list, and for one that reads the binary.
#[test]
fn the_packages_list_the_crates_of_the_daemon() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut unpack = Command::new("dpkg-deb");
    output(
        unpack
            .arg("--extract")
            .arg(&Packages::built().deb)
            .arg(directory.path()),
    );
    let name = "usr/share/doc/icinga-desktop-bridge/icinga-desktop-bridge.cdx.json";
    let list = fs::read_to_string(directory.path().join(name)).expect("a list");
    let binary = directory.path().join("usr/bin/icinga-desktop-bridge");
    assert_eq!(output(Command::new("auditable2cdx").arg(binary)), list);

    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["bomFormat"], "CycloneDX");
    let listed: BTreeSet<String> = list["components"]
        .as_array()
        .expect("components")
        .iter()
        .chain([&list["metadata"]["component"]])
        .map(|crate_| format!("{} v{}", crate_["name"], crate_["version"]).replace('"', ""))
        .collect();
    let tree = "tree --locked --quiet --edges normal,build --prefix none --no-dedupe";
    for line in output(Command::new("cargo").args(tree.split(' '))).lines() {
        let crate_ = line.split(" (").next().expect("a name");
        assert!(listed.contains(crate_), "{line} is not listed");
    }
}
