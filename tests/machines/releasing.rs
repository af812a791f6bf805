//! A release is signed with the commands of RELEASING.md, and verified with those of the manual.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::steps::commands;
use crate::common::packages::Packages;

/// A user with a keyring, whose agent ends with it.
struct Person(tempfile::TempDir);

impl Person {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn attempt(&self, directory: &Path, script: &str) -> Output {
        Command::new("sh")
            .args(["-euc", script])
            .current_dir(directory)
            .env("GNUPGHOME", self.0.path())
            .output()
            .expect("sh runs")
    }

    fn run(&self, directory: &Path, script: &str) {
        let output = self.attempt(directory, script);
        assert!(output.status.success(), "{script}: {output:?}");
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.attempt(self.0.path(), "gpgconf --kill all");
    }
}

#[test]
fn what_was_signed_is_verified_and_what_was_changed_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let packages = directory.path().join("target/packages");
    fs::create_dir_all(&packages).expect("directories");
    for entry in fs::read_dir(Packages::built().directory()).expect("packages") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, packages.join(path.file_name().expect("a name"))).expect("a copy");
    }

    let maintainer = Person::new();
    let key = "gpg --batch --passphrase '' --quick-generate-key 'Maintainers <maintainers@example.org>' ed25519 sign";
    maintainer.run(directory.path(), key);
    let releasing = commands("RELEASING.md", "# Releasing");
    let sign = releasing.find("cd target/packages").expect("the step");
    maintainer.run(directory.path(), &releasing[sign..]);
    maintainer.run(&packages, "gpg --export >key");

    let user = Person::new();
    user.run(&packages, "gpg --import key");
    let verify = commands("doc/install.md", "### Verifying packages");
    user.run(&packages, &verify);
    // A changed package, or changed checksums as well.
    user.run(&packages, "echo >>\"$(ls *.deb)\"");
    assert!(!user.attempt(&packages, &verify).status.success());
    user.run(&packages, "sha256sum *.deb *.rpm >SHA256SUMS");
    assert!(!user.attempt(&packages, &verify).status.success());
}
