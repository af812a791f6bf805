//! Steps shared by the tests of a booted machine: the database, the configuration, a browser's stream, the service's state.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::common::packages::Packages;
use crate::common::sse::AGENT;
use crate::common::systemd::{Lines, Machine};

pub(super) const SERVICE: &str = "icinga-notifications-web.service";
/// The service's other name, and the unit of the PHP daemon of the releases 0.1 to 0.3.
pub(super) const ALIAS: &str = "icinga-desktop-notifications.service";
pub(super) const SOCKET: &str = "icinga-notifications-web.socket";
pub(super) const URL: &str = "http://127.0.0.1:9001/icingaweb2/notifications/v1/subscribe";
pub(super) const CONFIG: &str = "/etc/icingaweb2/modules/notifications/config.ini";
pub(super) const SESSION_ID: &str = "session-of-anna-0123456789";
/// The daemon's role, as the manual calls it.
pub(super) const ROLE: &str = "icingaweb2";

/// A machine on which the .deb is installed beside a database, without triggers and without a configuration.
pub(super) fn installed() -> Arc<Machine> {
    let machine = Arc::new(Machine::boot());
    start_database(&machine);
    let deb = machine.put(&Packages::built().deb);
    install(&machine, &deb);
    machine
}

/// A machine on which the service is installed, configured and running, with its socket.
pub(super) fn running() -> Arc<Machine> {
    let machine = installed();
    configure(&machine, "", "/run/postgresql");
    install_triggers(&machine);
    machine.run(&format!("systemctl start {SOCKET} {SERVICE}"));
    machine
}

/// Installs a package file and returns the output.
pub(super) fn install(machine: &Machine, deb: &str) -> String {
    machine.run(&format!(
        "DEBIAN_FRONTEND=noninteractive dpkg -i {deb} 2>&1"
    ))
}

/// Writes the configuration, as Icinga Web would. `database` names the server's host.
pub(super) fn configure(machine: &Machine, daemon: &str, database: &str) {
    machine.write(
        CONFIG,
        &format!("[daemon]\n{daemon}\n[database]\nresource = \"notifications\"\n"),
    );
    machine.write(
        "/etc/icingaweb2/resources.ini",
        &format!(
            "[notifications]\ntype = \"db\"\ndb = \"pgsql\"\nhost = \"{database}\"\ndbname = \"notifications\"\n\
             username = \"{ROLE}\"\npassword = \"secret-of-the-bridge\"\n"
        ),
    );
    machine.run(
        "chown -R root:icingaweb2 /etc/icingaweb2
         find /etc/icingaweb2 -type d -exec chmod 2770 {} +
         find /etc/icingaweb2 -type f -exec chmod 0660 {} +",
    );
}

/// A substitute for the PHP daemon: a command that uses its port, and answers nothing. Without a `$`, which systemd expands.
pub(super) fn php_daemon(address: &str) -> String {
    format!(
        "/usr/bin/perl -MIO::Socket::IP -e \
         '@held = IO::Socket::IP->new(LocalAddr => \"{address}\", Listen => 1, ReuseAddr => 1) or die; sleep'"
    )
}

/// Whether it listens.
pub(super) fn php_daemon_listens(machine: &Machine) -> bool {
    !machine.run("ss -Hltnp | grep '\"perl\"' || :").is_empty()
}

/// Waits until it does, on this port.
pub(super) fn wait_for_php_daemon(machine: &Machine, port: u16) {
    let listening = format!("ss -Hltnp '( sport = :{port} )'");
    machine.wait_until(&listening, |by| by.contains("\"perl\""));
}

/// systemd's state of a unit: enabled, disabled, alias, …
pub(super) fn is_enabled(machine: &Machine, unit: &str) -> String {
    machine.run(&format!("systemctl is-enabled {unit} 2>&1 || :"))
}

/// The commands of a section of the manual, up to the next heading: its indented lines.
pub(super) fn commands(page: &str, heading: &str) -> String {
    let text = format!("\n{}", fs::read_to_string(page).expect(page));
    let (_, section) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("{heading} in {page}"));
    let section = section.split("\n#").next().expect("its text");
    let commands = section.lines().filter_map(|line| line.strip_prefix("    "));
    commands.collect::<Vec<_>>().join("\n")
}

/// Starts PostgreSQL, with Icinga Notifications' tables and a signed-in user, but without the triggers.
pub(super) fn start_database(machine: &Machine) {
    for schema in ["schema-0.1.sql", "schema-1.0.sql"] {
        let text = fs::read_to_string(Path::new("tests/fixtures").join(schema)).expect(schema);
        machine.write(&format!("/srv/fixtures/{schema}"), &text);
    }
    machine.run(
        r#"
        bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
        install -d -o postgres -g postgres /run/postgresql /srv/database
        runuser -u postgres -- "$bin/initdb" -D /srv/database -A trust -E UTF8 --no-locale --no-sync >/srv/initdb.log
        systemd-run --quiet --unit=database --property=Type=notify --uid=postgres \
            "$bin/postgres" -D /srv/database -k /run/postgresql -c fsync=off
        "#,
    );
    sql(
        machine,
        "postgres",
        &format!("-c 'CREATE DATABASE notifications' -c 'CREATE ROLE {ROLE} LOGIN'"),
    );
    sql(machine, "notifications", "-f /srv/fixtures/schema-1.0.sql");
    sql(
        machine,
        "notifications",
        &format!(
            "-c \"INSERT INTO contact (full_name, username, default_channel_id, changed_at) VALUES ('Anna', 'anna', 1, 1);
              INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at)
              VALUES ('{SESSION_ID}', 'anna', '{AGENT}', extract(epoch FROM now())::bigint * 1000)\""
        ),
    );
}

/// What the administrator does once, with the contents of the package.
pub(super) fn install_triggers(machine: &Machine) {
    let scripts = "/usr/share/icinga-desktop-bridge/sql";
    sql(
        machine,
        "notifications",
        &format!("-f {scripts}/install.sql"),
    );
    sql(
        machine,
        "notifications",
        &format!("-v role={ROLE} -f {scripts}/grants.sql"),
    );
}

pub(super) fn sql(machine: &Machine, database: &str, arguments: &str) {
    machine.run(&format!(
        "cd /; runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -h /run/postgresql -d {database} {arguments}"
    ));
}

/// Opens a browser's stream; the answer's head comes first.
pub(super) fn subscribe(machine: &Machine) -> Lines {
    let mut curl = machine.command("curl");
    curl.args([
        "--silent",
        "--no-buffer",
        "--include",
        "--user-agent",
        AGENT,
    ])
    .args(["--cookie", &format!("Icingaweb2={SESSION_ID}"), URL]);
    machine.spawn(curl)
}

/// A browser that reconnects whenever its stream ends, as browsers do, until it is dropped.
pub(super) fn tab(machine: &Machine) -> Lines {
    tab_at(machine, URL)
}

/// The same behind a proxy that uses this address.
pub(super) fn tab_at(machine: &Machine, url: &str) -> Lines {
    let mut sh = machine.command("sh");
    sh.args([
        "-c",
        // Without a reader of its output, the echo ends it.
        "while echo; do curl --silent --no-buffer --user-agent \"$0\" --cookie \"$1\" \"$2\"; sleep 0.3; done",
        AGENT,
        &format!("Icingaweb2={SESSION_ID}"),
        url,
    ]);
    let tab = machine.spawn(sh);
    tab.wait_for("retry:");
    tab
}

/// Opens a stream, which must be accepted, and reads its first block. It ends within seconds.
pub(super) fn stream(machine: &Machine) -> Lines {
    let stream = subscribe(machine);
    stream.wait_for("HTTP/1.1 200");
    stream.wait_for("retry:");
    stream
}

/// curl's result for one request, as exit code and status.
pub(super) fn request(machine: &Machine) -> String {
    machine.run(&format!(
        "curl -s -o /dev/null -w '%{{http_code}}' --max-time 30 {URL} || echo \" curl: $?\""
    ))
}

/// Broken symbolic links of systemd and its helpers, and everything named like our units.
pub(super) fn links(machine: &Machine) -> Vec<String> {
    let found =
        machine.run("find /etc/systemd /var/lib/systemd -xtype l -o -path '*icinga*' | sort");
    found.lines().map(str::to_owned).collect()
}

/// Sends requests without a cookie again and again, which are answered 204, and records every other answer.
pub(super) struct Visitors {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(usize, Vec<String>)>>,
}

impl Visitors {
    pub(super) fn of(machine: &Arc<Machine>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (machine, stopped) = (Arc::clone(machine), Arc::clone(&stop));
        let (begun, first) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut count, mut unhappy) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let answer = request(&machine);
                count += 1;
                if answer != "204" {
                    unhappy.push(answer);
                }
                let _ = begun.send(());
            }
            (count, unhappy)
        });
        first.recv().expect("a first answer");
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Asserts that all of them were served.
    pub(super) fn were_served(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, unhappy) = self.thread.take().expect("once").join().expect("a thread");
        assert_eq!(unhappy, [""; 0], "of {count} requests");
        assert!(count > 1, "only {count} requests");
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A running service, before an upgrade.
pub(super) struct Running {
    process: String,
    socket_opened: String,
}

impl Running {
    pub(super) fn now(machine: &Machine) -> Self {
        Self {
            process: main_pid(machine),
            socket_opened: machine.show(SOCKET, "ActiveEnterTimestampMonotonic"),
        }
    }

    /// Asserts that it continues as another process behind the same socket.
    pub(super) fn was_upgraded(self, machine: &Machine) {
        assert_ne!(main_pid(machine), self.process);
        assert_eq!(machine.show(SERVICE, "ActiveState"), "active");
        assert_eq!(
            machine.show(SOCKET, "ActiveEnterTimestampMonotonic"),
            self.socket_opened
        );
        drop(stream(machine));
    }
}

pub(super) fn main_pid(machine: &Machine) -> String {
    machine.show(SERVICE, "MainPID")
}

/// What the service has logged since the last reset: `PRIORITY MESSAGE` of each line.
pub(super) fn journal(machine: &Machine) -> String {
    machine.run(&format!(
        "journalctl --sync; journalctl --no-pager --unit {SERVICE} --output json |
         perl -ne 'print \"$1 \" if /\"PRIORITY\":\"(\\d)\"/; print \"$1\\n\" if /\"MESSAGE\":\"((?:[^\"\\\\]|\\\\.)*)\"/'"
    ))
}

pub(super) fn drop_in(machine: &Machine, text: &str) {
    machine.write(&format!("/etc/systemd/system/{SERVICE}.d/test.conf"), text);
    machine.run("systemctl daemon-reload");
}

pub(super) fn remove_drop_in(machine: &Machine) {
    machine.run(&format!(
        "rm -r /etc/systemd/system/{SERVICE}.d; systemctl daemon-reload"
    ));
}

/// Waits until this property of a unit has that value.
pub(super) fn wait_for_state(machine: &Machine, unit: &str, property: &str, value: &str) {
    machine.wait_until(
        &format!("systemctl show --value -p {property} {unit}"),
        |seen| seen == value,
    );
}

/// Waits until there is another main process than `before`, and its start is complete.
pub(super) fn wait_for_another(machine: &Machine, before: &str) {
    machine.wait_until(
        &format!("systemctl show --value -p MainPID -p ActiveState {SERVICE} | tr '\\n' ' '"),
        |now| {
            now.contains("active")
                && !now.contains("activating")
                && !now.contains(before)
                && !now.starts_with("0 ")
        },
    );
}

/// Asserts that lines have a priority and no time, and contain nothing secret. Returns them.
pub(super) fn journal_is_clean(machine: &Machine) -> String {
    let journal = journal(machine);
    for line in journal.lines() {
        let (priority, message) = line.split_once(' ').expect("a priority and a message");
        assert!(priority.parse::<u8>().is_ok(), "{line}");
        assert!(
            !message.starts_with('<') && !message.starts_with('['),
            "{line}"
        );
        assert!(!message.contains(SESSION_ID), "{line}");
        assert!(!message.contains("secret-of-the-bridge"), "{line}");
    }
    assert!(!journal.contains("INFO"), "{journal}");
    journal
}

/// Everything that a package could leave behind, except dpkg's own database and caches.
pub(super) fn written(machine: &Machine) -> BTreeSet<PathBuf> {
    let of_others = [
        "var/lib/dpkg",
        "var/cache",
        "var/log",
        "srv/database",
        "var/lib/rpm",
        "var/lib/systemd/catalog",
        // The other package's unit is disabled with ours.
        "etc/systemd/system/multi-user.target.wants",
    ];
    let mut written = machine.written();
    written.retain(|file| !of_others.iter().any(|other| file.starts_with(other)));
    written
}
