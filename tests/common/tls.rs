//! A certificate that only the test trusts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A self-signed certificate for localhost.
pub(crate) struct Certificate {
    /// In PEM.
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Creates one, in files in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        let certificate = Self {
            file: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .arg("-out")
            .arg(&certificate.file)
            .arg("-keyout")
            .arg(&certificate.key)
            .output()
            .expect("openssl runs (apt-get install openssl)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        certificate
    }
}
