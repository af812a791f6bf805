//! A real nginx in front of the daemon, with the shipped files.

use std::path::{Path, PathBuf};

use super::guarded::{Guarded, directory};
use super::postgres::free_port;
use super::tls::Certificate;
use super::web::icinga_web;

/// A running nginx, stopped when dropped.
pub(crate) struct Nginx {
    _server: Guarded,
    /// Its address for HTTP/1.1.
    pub(crate) address: String,
    /// Its address for HTTP/2 (and 1.1) with TLS.
    pub(crate) tls_address: String,
    pub(crate) certificate: Certificate,
}

impl Nginx {
    /// With the shipped file, unchanged.
    pub(crate) fn shipped() -> Self {
        let file = shipped("icinga-desktop-bridge.conf");
        Self::with("", &format!("include {};\n", file.display()))
    }

    /// With the shipped files for several bridges: the one for the http block unchanged, the other one changed as its header
    /// says.
    pub(crate) fn for_several() -> Self {
        let upstream = shipped("icinga-desktop-bridge-upstream.conf");
        Self::with(
            &format!("include {};\n", upstream.display()),
            &edited("http://127.0.0.1:9001", "http://icinga_desktop_bridge"),
        )
    }

    /// With these directives in its http block and its server block, on free ports; it waits until nginx accepts. All other
    /// requests are answered with a page or the worker of Icinga Web.
    pub(crate) fn with(http: &str, server: &str) -> Self {
        let directory = directory();
        let port = || format!("127.0.0.1:{}", free_port());
        let (address, tls_address) = (port(), port());
        let certificate = Certificate::new(&directory);
        icinga_web(&directory);
        let root = directory.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {root}/{name};\n"))
            .collect();
        let config = format!(
            "daemon off;\n\
             pid {root}/pid;\n\
             error_log {root}/log;\n\
             worker_processes 2;\n\
             include {limits};\n\
             http {{\n\
             access_log off;\n\
             {temporary}\
             {http}\
             server {{\n\
             listen {address};\n\
             listen {tls_address} ssl http2;\n\
             ssl_certificate {certificate};\n\
             ssl_certificate_key {key};\n\
             {server}\
             root {root};\n\
             location / {{ try_files $uri /icingaweb2/index.html; }}\n\
             types {{ text/html html; text/javascript js; }}\n\
             }}\n\
             }}\n",
            limits = shipped("icinga-desktop-bridge-limits.conf").display(),
            certificate = certificate.file.display(),
            key = certificate.key.display(),
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, config).expect("a configuration file");
        let file = file.display().to_string();
        let log = directory.join("log").display().to_string();
        let command = ["/usr/sbin/nginx", "-e", &log, "-c", &file];
        Self {
            _server: Guarded::start(&directory, &command, &address),
            address,
            tls_address,
            certificate,
        }
    }
}

/// The shipped file for the server block, with one change.
pub(crate) fn edited(from: &str, to: &str) -> String {
    let text =
        std::fs::read_to_string(shipped("icinga-desktop-bridge.conf")).expect("the shipped file");
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

/// A file of packaging/nginx.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/nginx")
        .join(name)
}
