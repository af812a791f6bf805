//! A real Apache in front of the daemon, with the shipped files.

use std::path::{Path, PathBuf};

use super::guarded::{Guarded, directory};
use super::postgres::free_port;
use super::tls::Certificate;
use super::web::icinga_web;

/// A running Apache, stopped when dropped.
pub(crate) struct Apache {
    _server: Guarded,
    /// Its address for HTTP/1.1.
    pub(crate) address: String,
    /// Its address for HTTP/2 (and 1.1) with TLS.
    pub(crate) tls_address: String,
    pub(crate) certificate: Certificate,
}

/// Debian's directory of Apache's modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// The modules for the shipped files, and for a site with TLS.
const LOADED: [&str; 15] = [
    "mpm_event",
    "authz_core",
    "unixd",
    "alias",
    "asis",
    "headers",
    "setenvif",
    "http2",
    "ssl",
    "socache_shmcb",
    "slotmem_shm",
    "proxy",
    "proxy_http",
    "proxy_balancer",
    "lbmethod_byrequests",
];

impl Apache {
    /// With the shipped file, except for the daemon's address.
    pub(crate) fn start(daemon: &str) -> Self {
        let shipped = std::fs::read_to_string(shipped("icinga-desktop-bridge.conf"))
            .expect("the shipped file");
        assert!(shipped.contains("http://127.0.0.1:9001"), "{shipped}");
        Self::with(&shipped.replace("127.0.0.1:9001", daemon))
    }

    /// With a shipped file, unchanged.
    pub(crate) fn including(name: &str) -> Self {
        Self::with(&format!("Include {}\n", shipped(name).display()))
    }

    /// With these directives in its virtual hosts, on free ports; it waits until Apache accepts. All other requests are answered
    /// with a page or the worker of Icinga Web.
    pub(crate) fn with(directives: &str) -> Self {
        let directory = directory();
        let (address, tls_address) = (local_address(), local_address());
        let certificate = Certificate::new(&directory);
        let root = directory.display();
        let modules: String = LOADED
            .iter()
            // Some of them may be part of the program.
            .filter(|name| Path::new(&format!("{MODULES}/mod_{name}.so")).exists())
            .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
            .collect();
        icinga_web(&directory);
        let web = format!(
            "AliasMatch ^/icingaweb2/worker\\.js$ {root}/icingaweb2/worker.js\n\
             AliasMatch ^/icingaweb2 {root}/icingaweb2/index.html\n\
             <Files index.html>\nForceType text/html\n</Files>\n\
             <Files worker.js>\nForceType text/javascript\n</Files>\n"
        );
        let config = format!(
            "{modules}\
             ServerRoot {root}\n\
             ServerName localhost\n\
             PidFile {root}/pid\n\
             ErrorLog {root}/log\n\
             DefaultRuntimeDir {root}\n\
             User www-data\n\
             Group www-data\n\
             Listen {address}\n\
             Listen {tls_address}\n\
             Include {limits}\n\
             Define ICINGA_DESKTOP_BRIDGE_AWAY {away}\n\
             <VirtualHost {address}>\n\
             {web}\
             {directives}\
             </VirtualHost>\n\
             <VirtualHost {tls_address}>\n\
             Protocols h2 http/1.1\n\
             SSLEngine on\n\
             SSLCertificateFile {certificate}\n\
             SSLCertificateKeyFile {key}\n\
             {web}\
             {directives}\
             </VirtualHost>\n",
            limits = shipped("icinga-desktop-bridge-limits.conf").display(),
            away = shipped("away.asis").display(),
            certificate = certificate.file.display(),
            key = certificate.key.display(),
        );
        let file = directory.join("apache.conf");
        std::fs::write(&file, config).expect("a configuration file");
        let file = file.display().to_string();
        let command = ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", &file];
        Self {
            _server: Guarded::start(&directory, &command, &address),
            address,
            tls_address,
            certificate,
        }
    }
}

/// A file of packaging/apache.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/apache")
        .join(name)
}

fn local_address() -> String {
    format!("127.0.0.1:{}", free_port())
}
