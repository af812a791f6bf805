//! A private PgBouncer in front of a test's database, which ends with the test process like the server.

use std::net::TcpStream;

use super::guardian::Guardian;
use super::postgres::{Database, free_port};
use super::wait::{TIMEOUT, eventually_blocking};

/// A running pooler. It ends when this is dropped or the process ends, in any way.
pub(crate) struct PgBouncer {
    _guardian: Guardian,
    port: u16,
}

/// Runs its arguments until standard input closes, which only the test process keeps open. runuser has a child.
const GUARDIAN: &str = r#"
    trap '' HUP INT TERM
    "$@" &
    cat > /dev/null
    kill -KILL $(cat "/proc/$!/task/$!/children") $!
"#;

impl PgBouncer {
    /// Starts a pooler with this `pool_mode` which accepts `role`.
    ///
    /// # Panics
    ///
    /// If it is missing or does not start.
    pub(crate) fn start(database: &Database, role: &str, pool_mode: &str) -> Self {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .expect("PgBouncer was not found: install the package pgbouncer");
        // The server's directory also belongs to the user of the pooler, and is removed with the server.
        let directory = database.socket_directory();
        let port = free_port();
        let (users, settings) = (
            directory.join(format!("pgbouncer-{port}.users")),
            directory.join(format!("pgbouncer-{port}.ini")),
        );
        std::fs::write(&users, format!("\"{role}\" \"\"\n")).expect("the user list is written");
        let text = format!(
            "[databases]\n\
             * = host={directory} port={server}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = trust\n\
             auth_file = {users}\n\
             pool_mode = {pool_mode}\n",
            directory = directory.display(),
            server = database.port(),
            users = users.display(),
        );
        std::fs::write(&settings, text).expect("the configuration is written");
        let pooler = database.server_command(program);
        let guardian = Guardian::start(GUARDIAN, |shell| {
            shell
                .arg(pooler.get_program())
                .args(pooler.get_args())
                .arg("--quiet")
                .arg(&settings);
        });
        let bouncer = Self {
            _guardian: guardian,
            port,
        };
        eventually_blocking(TIMEOUT, || {
            TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("PgBouncer: {error}"))
        });
        bouncer
    }

    /// The keys of a resource that reaches `database` through the pooler.
    pub(crate) fn resource(&self, database: &Database, role: &str) -> String {
        format!(
            "host = 127.0.0.1\nport = {}\ndbname = {}\nusername = {role}",
            self.port,
            database.name()
        )
    }
}
