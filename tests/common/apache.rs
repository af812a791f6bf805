//! A real Apache in front of the daemon, with the directives that Icinga's manual gives.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::sse::PATIENCE;

/// A running Apache, stopped when dropped.
pub(crate) struct Apache {
    child: Child,
    _directory: TempDir,
    /// Where it listens.
    pub(crate) address: String,
}

/// Where Debian keeps Apache's modules.
const MODULES: &str = "/usr/lib/apache2/modules";

impl Apache {
    /// Starts Apache on a free port and waits until it accepts.
    pub(crate) fn start(daemon: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let root = directory.path().display();
        let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http", "headers"]
            .iter()
            .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
            .collect();
        let config = format!(
            "ServerRoot {root}\nServerName localhost\nListen {address}\nPidFile {root}/pid\nErrorLog {root}/log\n\
             DefaultRuntimeDir {root}\n{modules}\
             <LocationMatch \"^/icingaweb2/notifications/v(?<version>\\d+)/subscribe$\">\n\
             ProxyPassMatch http://{daemon} connectiontimeout=10 timeout=30 flushpackets=on\n\
             RequestHeader set X-Icinga-Notifications-Protocol-Version %{{MATCH_VERSION}}e\n\
             </LocationMatch>\n"
        );
        let file = directory.path().join("apache.conf");
        std::fs::write(&file, config).expect("a configuration file");
        let child = Command::new("/usr/sbin/apache2")
            .args(["-D", "FOREGROUND", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .expect("apache2 starts (apt-get install apache2)");
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(
                Instant::now() < deadline,
                "Apache does not accept connections"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self {
            child,
            _directory: directory,
            address,
        }
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Its parent process takes the workers with it only if it is asked, not killed.
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        if asked.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
