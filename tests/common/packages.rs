//! The packages, built once per test binary by the official command.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The packages made by `packaging/build.sh`.
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

impl Packages {
    /// Builds them, unless a test of this binary has already.
    pub(crate) fn built() -> &'static Self {
        static BUILT: OnceLock<Packages> = OnceLock::new();
        BUILT.get_or_init(|| {
            let output = Command::new("sh")
                .arg("packaging/build.sh")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .expect("sh runs");
            assert!(
                output.status.success(),
                "packaging/build.sh: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Self {
                deb: only("deb"),
                rpm: only("rpm"),
            }
        })
    }

    /// Their directory, with their list of crates and their checksums.
    pub(crate) fn directory(&self) -> &Path {
        self.deb.parent().expect("a directory")
    }
}

/// The one package of this kind.
fn only(extension: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages");
    let mut found: Vec<_> = std::fs::read_dir(&directory)
        .expect("target/packages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
