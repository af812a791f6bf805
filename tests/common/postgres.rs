//! A private PostgreSQL per test binary, with a database per test, real psql, and sessions that keep what they hear.
//!
//! The server lives in a temporary directory and is gone with the test process, even if that is killed: a guardian shell
//! waits for the end of a pipe that only the test process holds open.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// The superuser of every [`Cluster`].
pub(crate) const SUPERUSER: &str = "postgres";

/// The superuser's password: TCP asks for it, the socket does not.
pub(crate) const PASSWORD: &str = "only-for-tests";

/// How long something that must happen may take on a busy machine, before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A private PostgreSQL server, stopped and removed when this is dropped or the process ends, however it ends.
pub(crate) struct Cluster {
    endpoint: Arc<Endpoint>,
    databases: AtomicUsize,
    // Dropped last: it removes what the rest refers to.
    _guardian: Guardian,
}

/// Where a server is and how to run its programs.
struct Endpoint {
    directory: PathBuf,
    programs: PathBuf,
    /// Root may not run PostgreSQL; then its user does.
    through_runuser: bool,
    port: AtomicU32,
}

impl Cluster {
    /// The server that all tests of this binary share, started by the first that asks.
    ///
    /// # Panics
    ///
    /// If PostgreSQL's server programs are missing or do not start; the message says what to install.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::private)
    }

    /// A server of the test's own, for a test that stops or breaks it.
    ///
    /// # Panics
    ///
    /// As [`Cluster::shared`].
    pub(crate) fn private() -> Self {
        Self::started(Endpoint::initialize)
    }

    /// A standby of `primary`, streaming from it, and open for queries.
    ///
    /// # Panics
    ///
    /// As [`Cluster::shared`].
    pub(crate) fn standby_of(primary: &Self) -> Self {
        Self::started(|endpoint| endpoint.copy(&primary.endpoint))
    }

    /// A server of which `fill` makes the data directory.
    fn started(fill: impl FnOnce(&Endpoint)) -> Self {
        // Before there is a directory: it panics if there is no server.
        let programs = server_programs();
        let directory = tempfile::Builder::new()
            .prefix("icinga-desktop-test-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let owner = std::fs::metadata(&directory)
            .expect("the directory just made")
            .uid();
        let endpoint = Arc::new(Endpoint {
            programs,
            through_runuser: owner == 0,
            port: AtomicU32::new(0),
            directory,
        });
        let guardian = Guardian::start(&endpoint);
        endpoint.own_directory();
        fill(&endpoint);
        let cluster = Self {
            endpoint,
            databases: AtomicUsize::new(0),
            _guardian: guardian,
        };
        // Between finding a port free and binding it, somebody else may.
        for attempt in 1.. {
            cluster
                .endpoint
                .port
                .store(free_port().into(), Ordering::Relaxed);
            match cluster.try_start() {
                Ok(()) => break,
                Err(log) => assert!(attempt < 5, "PostgreSQL does not start:\n{log}"),
            }
        }
        cluster
    }

    /// Starts a stopped server again, on the same port.
    pub(crate) fn start(&self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL does not start again:\n{log}");
        }
    }

    /// Stops the server as a crash would: at once, without a word to its clients.
    pub(crate) fn crash(&self) {
        self.pg_ctl(&["-m", "immediate", "stop"]);
    }

    /// Stops the server as an administrator would: sessions are terminated and told so.
    pub(crate) fn stop(&self) {
        self.pg_ctl(&["-m", "fast", "stop"]);
    }

    /// [`Cluster::stop`] and [`Cluster::start`].
    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.pg_ctl(&["promote"]);
    }

    /// Stops every process of the server where it is, as a machine that hangs does. They go on when the answer is
    /// dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let postmaster = self.pids()[0];
        let mut frozen = Frozen(vec![postmaster]);
        // The postmaster first: then there are no new children.
        signal("STOP", &frozen.0);
        let children = self.pids().split_off(1);
        signal("STOP", &children);
        frozen.0.extend(children);
        frozen
    }

    /// As [`Cluster::freeze`], but only these of the server's processes.
    pub(crate) fn freeze_only(&self, pids: Vec<u32>) -> Frozen {
        let all = self.pids();
        assert!(
            pids.iter().all(|pid| all.contains(pid)),
            "not processes of the server: {pids:?}"
        );
        let frozen = Frozen(pids);
        signal("STOP", &frozen.0);
        frozen
    }

    /// The server's processes, the postmaster first.
    fn pids(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.endpoint.data().join("postmaster.pid"))
            .expect("the server runs");
        let postmaster: u32 = file
            .lines()
            .next()
            .and_then(|line| line.parse().ok())
            .expect("a process id");
        let mut pids = vec![postmaster];
        pids.extend(children_of(postmaster));
        pids
    }

    /// On this server, the database that `original` is on another one.
    pub(crate) fn same_database(&self, original: &Database) -> Database {
        Database {
            endpoint: Arc::clone(&self.endpoint),
            name: original.name.clone(),
        }
    }

    /// The port of the server on 127.0.0.1, where [`SUPERUSER`] needs [`PASSWORD`].
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// Creates an empty database with citext in it; its name begins with `hint`.
    pub(crate) fn database(&self, hint: &str) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let database = |name: String| Database {
            endpoint: Arc::clone(&self.endpoint),
            name,
        };
        let created = database(format!("{hint}_{number}"));
        // template0, because nobody can be connected to it, which would make this fail.
        database(SUPERUSER.to_owned())
            .psql()
            .command(&format!(
                "CREATE DATABASE \"{}\" TEMPLATE template0",
                created.name
            ))
            .success();
        created
            .psql()
            .command("CREATE EXTENSION citext WITH SCHEMA public")
            .success();
        created
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        let output = self
            .endpoint
            .server_command("pg_ctl")
            .arg("-D")
            .arg(self.endpoint.data())
            .arg("-w")
            .args(arguments)
            .output()
            .expect("pg_ctl runs");
        assert!(
            output.status.success(),
            "pg_ctl {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the server, or returns its log.
    fn try_start(&self) -> Result<(), String> {
        let log = self.endpoint.directory.join("log");
        let status = self
            .endpoint
            .server_command("pg_ctl")
            .arg("-D")
            .arg(self.endpoint.data())
            .args(["-w", "-l"])
            .arg(&log)
            .args(["-o", &format!("-p {}", self.port()), "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl runs");
        if status.success() {
            return Ok(());
        }
        Err(std::fs::read_to_string(log).unwrap_or_else(|error| format!("no log: {error}")))
    }
}

impl Endpoint {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn port(&self) -> u16 {
        u16::try_from(self.port.load(Ordering::Relaxed)).expect("stored from a u16")
    }

    /// A command that runs one of the server's programs as a user that the server accepts.
    fn server_command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.through_runuser {
            let mut command = Command::new("runuser");
            command.args(["-u", SUPERUSER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // The working directory may be closed to that user.
        command.current_dir(&self.directory).stdin(Stdio::null());
        without_pg_environment(&mut command);
        command
    }

    /// Gives the directory to the user that the server runs as.
    fn own_directory(&self) {
        if self.through_runuser {
            let status = Command::new("chown")
                .arg(SUPERUSER)
                .arg(&self.directory)
                .status()
                .expect("chown runs");
            assert!(
                status.success(),
                "root may not run PostgreSQL, and there is no user {SUPERUSER} to run it: \
                 install the package postgresql, or run the tests as another user"
            );
        }
    }

    /// Makes the data directory a standby's.
    fn copy(&self, primary: &Self) {
        let output = self
            .server_command("pg_basebackup")
            .arg("-D")
            .arg(self.data())
            .arg("-h")
            .arg(&primary.directory)
            .args(["-p", &primary.port().to_string(), "-U", SUPERUSER])
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .output()
            .expect("pg_basebackup runs");
        assert!(
            output.status.success(),
            "pg_basebackup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Of a setting that is there twice, the last counts.
        let file = self.data().join("postgresql.auto.conf");
        let mut settings = std::fs::read_to_string(&file).expect("the primary's configuration");
        writeln!(
            settings,
            "unix_socket_directories = '{}'",
            self.directory.display()
        )
        .expect("a String takes it");
        std::fs::write(file, settings).expect("the configuration is written");
    }

    fn initialize(&self) {
        let password = self.directory.join("password");
        std::fs::write(&password, PASSWORD).expect("the password file is written");
        let output = self
            .server_command("initdb")
            .arg("-D")
            .arg(self.data())
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pwfile")
            .arg(&password)
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .output()
            .expect("initdb runs");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        // Durability is of no use to a directory that is removed in a minute.
        let settings = format!(
            "listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\n\
             max_connections = 200\n\
             shared_buffers = 32MB\n\
             fsync = off\n\
             synchronous_commit = off\n\
             full_page_writes = off\n",
            self.directory.display()
        );
        let file = self.data().join("postgresql.auto.conf");
        std::fs::write(file, settings).expect("the configuration is written");
    }
}

/// Holds a shell's standard input; when that closes, the shell stops the server and removes its directory.
struct Guardian {
    shell: Child,
    lifeline: Option<ChildStdin>,
}

impl Guardian {
    /// Arguments: the directory, then the command that stops the server in it.
    const SCRIPT: &str = r#"
        trap '' HUP INT TERM
        directory=$1; shift
        cat > /dev/null
        if [ -e "$directory/data/postmaster.pid" ]; then
            # A test may have been killed while the server was frozen, and a stopped process cannot end.
            pid=$(head -n 1 "$directory/data/postmaster.pid")
            kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
            "$@"
        fi
        rm -rf "$directory"
    "#;

    fn start(endpoint: &Endpoint) -> Self {
        let mut stop = endpoint.server_command("pg_ctl");
        stop.arg("-D")
            .arg(endpoint.data())
            .args(["-m", "immediate", "-w", "stop"]);
        let mut shell = Command::new("sh")
            .args(["-c", Self::SCRIPT, "guardian"])
            .arg(&endpoint.directory)
            .arg(stop.get_program())
            .args(stop.get_args())
            .current_dir("/")
            .stdin(Stdio::piped())
            // Whoever reads the test's output must not have to wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group is not for the guardian.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let lifeline = shell.stdin.take();
        Self { shell, lifeline }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing to be done about a failure here, and the test has its result.
        let _ = self.shell.wait();
    }
}

/// A server that [`Cluster::freeze`] stopped.
pub(crate) struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

/// Sends a signal by name. A process may have ended meanwhile.
fn signal(name: &str, pids: &[u32]) {
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may contain anything; behind it come the state and the parent.
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        behind_name.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_child)
        .collect()
}

/// A database of one test.
pub(crate) struct Database {
    endpoint: Arc<Endpoint>,
    name: String,
}

impl Database {
    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory with the server's Unix socket, where every role is trusted.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.endpoint.directory
    }

    /// The server's port, on 127.0.0.1 and of the socket.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// A command that runs `program` as the user that the server runs as.
    pub(crate) fn server_command(&self, program: &str) -> Command {
        self.endpoint.server_command(program)
    }

    /// Creates a role that may log in and nothing else; its name begins with the database's, as roles are cluster-wide.
    pub(crate) fn role(&self, hint: &str) -> String {
        let role = format!("{}_{hint}", self.name);
        self.psql()
            .command(&format!("CREATE ROLE \"{role}\" LOGIN"))
            .success();
        role
    }

    /// Connects as the superuser.
    pub(crate) async fn connect(&self) -> Session {
        self.connect_as(SUPERUSER).await
    }

    /// Connects as a role, over the socket.
    pub(crate) async fn connect_as(&self, role: &str) -> Session {
        let connected = tokio_postgres::Config::new()
            .host_path(&self.endpoint.directory)
            .port(self.port())
            .user(role)
            .dbname(&self.name)
            .connect(NoTls)
            .await;
        let (client, mut connection) = connected.unwrap_or_else(|error| {
            panic!("{role} cannot connect to {}: {error:?}", self.name);
        });
        let (heard, notifications) = mpsc::unbounded_channel();
        let (noticed, notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(|context| connection.poll_message(context));
            // An error ends the session; the client's next statement reports it.
            while let Some(Ok(message)) = messages.next().await {
                match message {
                    AsyncMessage::Notification(notification) => {
                        let channel = notification.channel().to_owned();
                        let payload = notification.payload().to_owned();
                        let _ = heard.send((channel, payload));
                    }
                    AsyncMessage::Notice(notice) => {
                        let _ = noticed
                            .send((notice.severity().to_owned(), notice.message().to_owned()));
                    }
                    _ => {}
                }
            }
        });
        Session {
            client,
            notifications,
            notices,
        }
    }

    /// Connects as the superuser, if the server lets us.
    pub(crate) async fn try_connect(&self) -> Option<Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.endpoint.directory)
            .port(self.port())
            .user(SUPERUSER)
            .dbname(&self.name)
            .connect(NoTls)
            .await
            .ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Connects as the superuser and listens to the channels.
    pub(crate) async fn listen(&self, channels: &[&str]) -> Session {
        let session = self.connect().await;
        for channel in channels {
            session.run(&format!("LISTEN \"{channel}\"")).await;
        }
        session.run(&format!("LISTEN {SENTINEL}")).await;
        session
    }

    /// Prepares a run of the real psql, as the superuser unless told otherwise.
    pub(crate) fn psql(&self) -> Psql {
        let beside_server = self.endpoint.programs.join("psql");
        let mut command = Command::new(if beside_server.exists() {
            beside_server.as_os_str()
        } else {
            OsStr::new("psql")
        });
        without_pg_environment(&mut command);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .env("PGHOST", &self.endpoint.directory)
            .env("PGPORT", self.port().to_string())
            .env("PGDATABASE", &self.name)
            .env("PGUSER", SUPERUSER)
            .args(["--no-psqlrc", "--set=ON_ERROR_STOP=1"]);
        Psql { command }
    }
}

/// The channel by which a session finds out that it has heard everything.
const SENTINEL: &str = "test_sentinel";

/// A connection to a database, with what the server sent unasked.
pub(crate) struct Session {
    client: Client,
    notifications: mpsc::UnboundedReceiver<(String, String)>,
    notices: mpsc::UnboundedReceiver<(String, String)>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Session {
    /// Runs statements that must succeed.
    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The single value of a query, which must be text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        match self.query_one(sql, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// Runs statements that must fail, and returns the server's message.
    pub(crate) async fn refusal(&self, sql: &str) -> String {
        match self.batch_execute(sql).await {
            Ok(()) => panic!("accepted: {sql}"),
            Err(error) => error
                .as_db_error()
                .unwrap_or_else(|| panic!("{sql}: {error:?}"))
                .message()
                .to_owned(),
        }
    }

    /// The next notification, (channel, payload), within a patient time.
    pub(crate) async fn notification(&mut self) -> (String, String) {
        tokio::time::timeout(PATIENCE, self.notifications.recv())
            .await
            .expect("a notification arrives in time")
            .expect("the session lives")
    }

    /// Every (channel, payload) of what was committed so far and not yet read. Only after [`Database::listen`].
    pub(crate) async fn heard(&mut self) -> Vec<(String, String)> {
        // The queue is in order of commit, so what was committed before this comes before it.
        self.run(&format!("NOTIFY {SENTINEL}")).await;
        let mut heard = Vec::new();
        loop {
            let notification = self.notification().await;
            if notification.0 == SENTINEL {
                return heard;
            }
            heard.push(notification);
        }
    }

    /// The WARNINGs that the statements so far have raised.
    pub(crate) fn warnings(&mut self) -> Vec<String> {
        // They precede the statement's completion, so they are here once that was awaited.
        let mut warnings = Vec::new();
        while let Ok((severity, message)) = self.notices.try_recv() {
            if severity == "WARNING" {
                warnings.push(message);
            }
        }
        warnings
    }
}

/// A run of psql being prepared.
pub(crate) struct Psql {
    command: Command,
}

impl Psql {
    /// Runs as this role.
    pub(crate) fn role(mut self, role: &str) -> Self {
        self.command.env("PGUSER", role);
        self
    }

    /// Runs with this search_path.
    pub(crate) fn search_path(mut self, path: &str) -> Self {
        let mut options = "-c search_path=".to_owned();
        for character in path.chars() {
            let escape = if matches!(character, ' ' | '\\') {
                "\\"
            } else {
                ""
            };
            write!(options, "{escape}{character}").expect("a String takes it");
        }
        self.command.env("PGOPTIONS", options);
        self
    }

    /// Sets a variable of psql.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.arg(format!("--set={name}={value}"));
        self
    }

    /// Runs a file, its path relative to the repository.
    pub(crate) fn file(mut self, path: &str) -> PsqlOutput {
        self.command.args(["-f", path]);
        self.output()
    }

    /// Runs statements.
    pub(crate) fn command(mut self, sql: &str) -> PsqlOutput {
        self.command.args(["--quiet", "-c", sql]);
        self.output()
    }

    fn output(mut self) -> PsqlOutput {
        let output = self.command.output().unwrap_or_else(|error| {
            panic!("psql does not run ({error}): install postgresql-client");
        });
        PsqlOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What a run of psql gave.
#[derive(Debug)]
pub(crate) struct PsqlOutput {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl PsqlOutput {
    /// Panics with what psql wrote unless it succeeded.
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "psql failed: {}", self.stderr);
        self
    }

    /// Panics unless psql failed, and returns what it wrote to standard error.
    pub(crate) fn failure(self) -> String {
        assert!(
            !self.status.success(),
            "psql succeeded: {}{}",
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

/// The directory with initdb and pg_ctl: the one that the environment variable `PG_BINDIR` names, as
/// tests/postgres-majors.sh does to run tests on another major; else pg_config's; else the newest of Debian's.
fn server_programs() -> PathBuf {
    let has_programs = |directory: &PathBuf| {
        directory.join("initdb").exists() && directory.join("pg_ctl").exists()
    };
    if let Some(named) = std::env::var_os("PG_BINDIR").map(PathBuf::from) {
        // Another server than the one asked for would pass for it.
        assert!(
            named.is_absolute() && has_programs(&named),
            "PG_BINDIR is {}: it must be the absolute path of a directory with initdb and pg_ctl",
            named.display()
        );
        return named;
    }
    [pg_config_bindir().ok(), newest_debian_bindir().ok()]
        .into_iter()
        .flatten()
        .find(has_programs)
        .expect(
            "PostgreSQL's server programs (initdb, pg_ctl) were not found: install the server (Debian: postgresql, \
             Fedora: postgresql-server and postgresql-contrib for citext), or name their directory in PG_BINDIR",
        )
}

fn pg_config_bindir() -> io::Result<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output()?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Debian has a directory per major version, and none of them in PATH.
fn newest_debian_bindir() -> io::Result<PathBuf> {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let newest = versions.pop().ok_or(io::ErrorKind::NotFound)?;
    Ok(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on 127.0.0.1")
        .port()
}

/// Whoever runs the tests may have a database of their own in the environment.
fn without_pg_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}
