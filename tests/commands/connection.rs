//! Every way in which a resource may say how to reach the database, tried with `check` against a real server.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::daemon::ConfigDir;
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database, PASSWORD, SUPERUSER};
use crate::common::world::installed;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// Runs `check`; whether it was content, and what it wrote.
fn check(resource: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let output = ConfigDir::new("", resource)
        .command(&["check"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !text.contains("only-for-tests"),
        "the password is shown: {text}"
    );
    (output.status.success(), text)
}

/// As Icinga Web's own writer puts a value into quotes.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn over_tcp(database: &Database, host: &str) -> String {
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

struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = certificate(name, &key);
        builder.set_issuer_name(&subject(name)).unwrap();
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self {
            key,
            certificate: builder.build(),
        }
    }

    /// A certificate for `name`, and its key, as PEM.
    fn issue(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = certificate(name, &key);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .unwrap();
        let names = SubjectAlternativeName::new()
            .dns(name)
            .build(&builder.x509v3_context(Some(&self.certificate), None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        (
            builder.build().to_pem().unwrap(),
            key.private_key_to_pem_pkcs8().unwrap(),
        )
    }
}

fn subject(name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn certificate(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(rand::random::<u32>() >> 1).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    builder
}

/// Writes a file that belongs to the owner of `directory` alone.
fn private_file(directory: &Path, name: &str, content: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(directory).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn tls_is_verified_as_use_ssl_says() {
    let cluster = Cluster::private();
    let (database, role) = installed(&cluster, "tls", Shape::V1_0);
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Another CA"));
    let (certificate, key) = ours.issue("localhost");
    let server = database.socket_directory();
    let (certificate, key) = (
        private_file(server, "server.crt", &certificate),
        private_file(server, "server.key", &key),
    );
    let ca = private_file(server, "ca.crt", &ours.certificate.to_pem().unwrap());
    for (setting, value) in [
        ("ssl_cert_file", certificate.as_str()),
        ("ssl_key_file", &key),
        ("ssl_ca_file", &ca),
        ("ssl", "on"),
    ] {
        let set = format!("ALTER SYSTEM SET {setting} = '{value}'");
        database.psql().command(&set).success();
    }
    cluster.restart();

    let files = tempfile::tempdir().unwrap();
    let wrong_ca = private_file(
        files.path(),
        "wrong.crt",
        &theirs.certificate.to_pem().unwrap(),
    );
    let by_name = over_tcp(&database, "localhost");
    let by_address = over_tcp(&database, "127.0.0.1");
    for (resource, outcome) in [
        // Without use_ssl: as libpq's `prefer`.
        (by_name.clone(), "TLSv1"),
        (format!("{by_name}\nuse_ssl = 1\nssl_ca = {ca}"), "TLSv1"),
        (
            format!("{by_name}\nuse_ssl = 1\nssl_ca = {wrong_ca}"),
            "FAIL",
        ),
        (format!("{by_name}\nuse_ssl = 1"), "FAIL"),
        (format!("{by_address}\nuse_ssl = 1\nssl_ca = {ca}"), "FAIL"),
        (
            format!(
                "{by_address}\nuse_ssl = 1\nssl_ca = {wrong_ca}\nssl_do_not_verify_server_cert = 1"
            ),
            "TLSv1",
        ),
    ] {
        let (good, text) = check(&resource, &[]);
        assert_eq!(good, outcome != "FAIL", "{resource}\n{text}");
        assert!(text.contains(outcome), "{resource}\n{text}");
    }
    for (mode, root, outcome) in [
        ("disable", &ca, "not encrypted"),
        ("require", &ca, "TLSv1"),
        ("verify-ca", &ca, "TLSv1"),
        ("verify-ca", &wrong_ca, "FAIL"),
        ("verify-full", &ca, "FAIL"),
    ] {
        let (_, text) = check(&by_address, &[("PGSSLMODE", mode), ("PGSSLROOTCERT", root)]);
        assert!(text.contains(outcome), "{mode}\n{text}");
    }

    // A client certificate instead of a password.
    let (certificate, key) = ours.issue(&role);
    let certificate = private_file(files.path(), "client.crt", &certificate);
    let key = private_file(files.path(), "client.key", &key);
    let hba = database.connect().await.text("SHOW hba_file").await;
    let rules = fs::read_to_string(&hba).unwrap();
    fs::write(
        &hba,
        format!("hostssl all \"{role}\" 127.0.0.1/32 cert\n{rules}"),
    )
    .unwrap();
    database.psql().command("SELECT pg_reload_conf()").success();
    let resource = format!(
        "host = 127.0.0.1\nport = {}\ndbname = {}\nusername = {role}\nuse_ssl = 1\n\
         ssl_do_not_verify_server_cert = 1",
        database.port(),
        database.name()
    );
    let with_certificate = format!("{resource}\nssl_cert = {certificate}\nssl_key = {key}");
    let (good, text) = check(&with_certificate, &[]);
    assert!(good, "{text}");
    let (good, text) = check(&resource, &[]);
    assert!(!good, "{text}");
    // A key that does not belong to the certificate.
    let (_, other) = ours.issue(&role);
    let other = private_file(files.path(), "other.key", &other);
    let (good, text) = check(
        &format!("{resource}\nssl_cert = {certificate}\nssl_key = {other}"),
        &[],
    );
    assert!(!good && text.contains("other.key"), "{text}");
}
