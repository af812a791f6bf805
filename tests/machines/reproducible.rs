//! The same sources give the same packages, regardless of user and directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::output;
use crate::common::packages::Packages;

/// The sources, without what was built of them.
fn copy_sources(to: &Path) {
    let script = "tar --exclude=./target --exclude=./.git --exclude=node_modules -cf - . | tar -xf - -C \"$0\"
        printf 'gitdir: %s\\n' \"$(git rev-parse --absolute-git-dir)\" >\"$0/.git\"";
    output(Command::new("sh").args(["-euc", script]).arg(to));
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"),
        PathBuf::from,
    )
}

#[test]
fn another_builder_elsewhere_makes_the_same_packages() {
    let here = described(Packages::built().directory());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sources = directory.path().join("other sources");
    let home = directory.path().join("other cargo");
    fs::create_dir_all(&sources).expect("a directory");
    fs::create_dir_all(&home).expect("a directory");
    copy_sources(&sources);
    symlink(cargo_home().join("registry"), home.join("registry")).expect("a link");

    let built = Command::new("sh")
        .args(["-c", "umask 077; exec sh packaging/build.sh"])
        .current_dir(&sources)
        .env("CARGO_HOME", &home)
        .env("TZ", "Pacific/Auckland")
        .env("LC_ALL", "C")
        // The man page is made by a program in the test profile, which is not compared.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .expect("sh runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    assert_eq!(described(&sources.join("target/packages")), here);
}

/// Checksums of the packages, and the crates in them.
fn described(packages: &Path) -> [String; 2] {
    ["SHA256SUMS", "icinga-desktop-bridge.cdx.json"]
        .map(|name| fs::read_to_string(packages.join(name)).expect(name))
}
