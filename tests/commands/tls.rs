//! TLS to the database, according to `use_ssl` and libpq's variables, tried with `check` against a real server.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use tempfile::TempDir;

use super::connection::{check, over_tcp};
use crate::common::icinga::Shape;
use crate::common::postgres::{Cluster, Database};
use crate::common::world::installed;

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

/// Writes a file that only the owner of `directory` can read.
fn private_file(directory: &Path, name: &str, content: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(directory).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path.display().to_string()
}

/// A server that speaks TLS as `localhost`.
struct Encrypted {
    database: Database,
    role: String,
    authority: Authority,
    /// The file with the certificate of `authority`.
    ca: String,
    /// Of the clients.
    files: TempDir,
    // Dropped last: the database is on it.
    _cluster: Cluster,
}

impl Encrypted {
    fn start() -> Self {
        let cluster = Cluster::private();
        let (database, role) = installed(&cluster, "tls", Shape::V1_0);
        let authority = Authority::new("Our CA");
        let (certificate, key) = authority.issue("localhost");
        let server = database.socket_directory();
        let ca = authority.certificate.to_pem().unwrap();
        let ca = private_file(server, "ca.crt", &ca);
        let certificate = private_file(server, "server.crt", &certificate);
        let key = private_file(server, "server.key", &key);
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
        Self {
            database,
            role,
            authority,
            ca,
            files: tempfile::tempdir().unwrap(),
            _cluster: cluster,
        }
    }

    /// The file with the certificate of an authority that did not sign the server's certificate.
    fn wrong_ca(&self) -> String {
        let theirs = Authority::new("Another CA");
        let certificate = theirs.certificate.to_pem().unwrap();
        private_file(self.files.path(), "wrong.crt", &certificate)
    }
}

#[tokio::test]
async fn a_resource_is_encrypted_where_possible_and_verified_where_use_ssl_says_so() {
    let server = Encrypted::start();
    let (ca, wrong_ca) = (&server.ca, server.wrong_ca());
    let by_name = over_tcp(&server.database, "localhost");
    let by_address = over_tcp(&server.database, "127.0.0.1");
    for (resource, outcome) in [
        // Without use_ssl: like libpq's `prefer`.
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
}

#[tokio::test]
async fn without_use_ssl_pgsslmode_says_how_much_is_verified() {
    let server = Encrypted::start();
    let (ca, wrong_ca) = (&server.ca, &server.wrong_ca());
    let by_address = over_tcp(&server.database, "127.0.0.1");
    for (mode, root, outcome) in [
        ("disable", ca, "not encrypted"),
        ("require", ca, "TLSv1"),
        ("verify-ca", ca, "TLSv1"),
        ("verify-ca", wrong_ca, "FAIL"),
        ("verify-full", ca, "FAIL"),
    ] {
        let (_, text) = check(&by_address, &[("PGSSLMODE", mode), ("PGSSLROOTCERT", root)]);
        assert!(text.contains(outcome), "{mode}\n{text}");
    }
}

#[tokio::test]
async fn a_client_certificate_with_its_own_key_signs_in_instead_of_a_password() {
    let server = Encrypted::start();
    let Encrypted { database, role, .. } = &server;
    let client_file = |name: &str, content: &[u8]| private_file(server.files.path(), name, content);
    let (certificate, key) = server.authority.issue(role);
    let certificate = client_file("client.crt", &certificate);
    let key = client_file("client.key", &key);
    let hba = database.connect().await.text("SHOW hba_file").await;
    let rules = fs::read_to_string(&hba).unwrap();
    let rules = format!("hostssl all \"{role}\" 127.0.0.1/32 cert\n{rules}");
    fs::write(&hba, rules).unwrap();
    database.psql().command("SELECT pg_reload_conf()").success();

    let resource = format!(
        "host = 127.0.0.1\nport = {}\ndbname = {}\nusername = {role}\nuse_ssl = 1\n\
         ssl_do_not_verify_server_cert = 1",
        database.port(),
        database.name()
    );
    let with_certificate = format!("{resource}\nssl_cert = {certificate}");
    let (good, text) = check(&format!("{with_certificate}\nssl_key = {key}"), &[]);
    assert!(good, "{text}");
    let (good, text) = check(&resource, &[]);
    assert!(!good, "{text}");
    // A key that does not belong to the certificate.
    let (_, other) = server.authority.issue(role);
    let other = client_file("other.key", &other);
    let (good, text) = check(&format!("{with_certificate}\nssl_key = {other}"), &[]);
    assert!(!good && text.contains("other.key"), "{text}");
}
