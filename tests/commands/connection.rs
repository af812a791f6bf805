//! All ways in which a resource may say how to reach the database, tried with `check` against a real server. TLS is in `tls.rs`.

use crate::common::command::Said;
use crate::common::daemon::ConfigDir;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database, PASSWORD, SUPERUSER};
use crate::common::world::installed;

/// Runs `check`; whether it passed, and its output.
pub(super) fn check(resource: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let config = ConfigDir::new("", resource);
    let mut command = config.command(&["check"]);
    let said = Said::by(command.envs(environment.iter().copied()));
    let text = said.to_string();
    assert!(!text.contains(PASSWORD), "the password is shown: {text}");
    (said.code == Some(0), text)
}

/// Quotes a value as Icinga Web's own writer does.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn over_tcp(database: &Database, host: &str) -> String {
    format!(
        "host = {host}\nport = {}\ndbname = {}\nusername = {SUPERUSER}\npassword = {}",
        database.port(),
        database.name(),
        quoted(PASSWORD)
    )
}

#[tokio::test]
async fn by_socket_by_address_by_name_and_by_environment() {
    let (database, role) = installed(Cluster::shared(), "ways", Shape::V1_0);
    let (directory, port) = (
        database.socket_directory().display(),
        database.port().to_string(),
    );
    let name = database.name();
    let by_socket =
        format!("host = {directory}\nport = {port}\ndbname = {name}\nusername = {role}");
    for resource in [
        by_socket.clone(),
        over_tcp(&database, "127.0.0.1"),
        over_tcp(&database, "localhost"),
        // The first host does not answer.
        over_tcp(&database, "\"127.0.0.2, 127.0.0.1\""),
        format!("{by_socket}\ncharset = latin1"),
    ] {
        let (good, text) = check(&resource, &[]);
        assert!(good, "{resource}\n{text}");
    }
    let directory = directory.to_string();
    let environment = [
        ("PGHOST", directory.as_str()),
        ("PGPORT", &port),
        ("PGDATABASE", name),
        ("PGUSER", &role),
    ];
    let (good, text) = check("", &environment);
    assert!(good, "{text}");
    let without_password = over_tcp(&database, "127.0.0.1").replace("password", "; password");
    let (good, text) = check(&without_password, &[("PGPASSWORD", PASSWORD)]);
    assert!(good, "{text}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_named_with_the_servers_reason() {
    let (database, _) = installed(Cluster::shared(), "unreachable", Shape::V1_0);
    let resource = over_tcp(&database, "127.0.0.1");
    for (resource, reason) in [
        (
            resource.replace("only-for", "not-for"),
            "password authentication failed",
        ),
        (
            resource.replace("dbname = ", "dbname = not_"),
            "does not exist",
        ),
        (
            resource.replace("port = ", "port = 1 ; "),
            "127.0.0.1 port 1: ",
        ),
        (
            over_tcp(&database, "no.such.host.invalid"),
            "no.such.host.invalid",
        ),
        (over_tcp(&database, "127.0.0.2,127.0.0.3"), "127.0.0.3"),
        (format!("{resource}\nuse_ssl = 1"), "127.0.0.1"),
    ] {
        let (good, text) = check(&resource, &[]);
        assert!(!good && text.contains(reason), "{reason}: {text}");
        assert!(text.contains("FAIL  connection: "), "{text}");
    }
}

#[tokio::test]
async fn passwords_may_have_any_character() {
    let (database, role) = installed(Cluster::shared(), "passwords", Shape::V1_0);
    for password in [
        "; # = [x] \" ' \\ % $HOME ${HOME} !()&|^~{}",
        "\\\\",
        "\"quoted\"",
        " spaces ",
        "ünï 🔑",
        "a;b\"c",
        "yes",
    ] {
        database
            .psql()
            .command(&format!("ALTER ROLE \"{role}\" PASSWORD $_${password}$_$"))
            .success();
        let resource = format!(
            "host = 127.0.0.1\nport = {}\ndbname = {}\nusername = {role}\npassword = {}",
            database.port(),
            database.name(),
            quoted(password)
        );
        let (good, text) = check(&resource, &[]);
        assert!(good, "{password}: {text}");
        assert!(!text.contains(password), "{text}");
    }
}
