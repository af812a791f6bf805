//! TLS: keys, variables and files.

use super::*;
use crate::config::tls::ClientCertificate;

/// A setup with readable files `ca`, `crt` and `key`, and these keys, in which `DIR` is their directory.
fn setup(keys: &str) -> Setup {
    let setup = Setup::resource("").with_keys(keys);
    for name in ["ca", "crt", "key"] {
        setup.file(name, b"PEM", 0o600);
    }
    setup
}

fn path(setup: &Setup, name: &str) -> PathBuf {
    setup.dir.path().join(name)
}

fn mode(setup: &Setup) -> (SslMode, Option<PathBuf>) {
    let tls = setup.database().tls;
    (tls.mode, tls.root_cert)
}

#[test]
fn use_ssl_verifies_with_the_named_authority_or_the_systems() {
    let named = setup("use_ssl = 1\nssl_ca = DIR/ca");
    assert_eq!(
        mode(&named),
        (SslMode::VerifyFull, Some(path(&named, "ca")))
    );
    assert_eq!(
        mode(&setup("use_ssl = 1\nssl_ca =")),
        (SslMode::VerifyFull, None)
    );
}

#[test]
fn use_ssl_beats_the_environments_mode() {
    let setup = setup("use_ssl = yes").env("PGSSLMODE", "disable");
    assert_eq!(mode(&setup), (SslMode::VerifyFull, None));
}

#[test]
fn use_ssl_without_an_authority_takes_the_one_of_the_environment() {
    let setup = setup("use_ssl = 1");
    let ca = path(&setup, "ca");
    let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
    assert_eq!(mode(&setup), (SslMode::VerifyFull, Some(ca)));
    assert_eq!(
        mode(&setup.env("PGSSLROOTCERT", "system")),
        (SslMode::VerifyFull, None)
    );
}

#[test]
fn not_verifying_is_require_without_an_authority() {
    let setup = setup("use_ssl = 1\nssl_ca = DIR/ca\nssl_do_not_verify_server_cert = 1");
    assert_eq!(mode(&setup), (SslMode::Require, None));
}

#[test]
fn flags_take_the_usual_words_in_any_case() {
    for word in ["1", "true", "YES", "On", "y"] {
        assert_eq!(
            mode(&setup(&format!("use_ssl = {word}"))).0,
            SslMode::VerifyFull,
            "{word}"
        );
    }
    for word in ["0", "False", "no", "OFF", "n", ""] {
        assert_eq!(
            mode(&setup(&format!("use_ssl = {word}"))).0,
            SslMode::Prefer,
            "{word}"
        );
    }
    let error = setup("use_ssl = maybe").error();
    assert!(
        error.starts_with("DIR/resources.ini, line 4, [notifications] use_ssl: give 1 or 0"),
        "{error}"
    );
    let error = setup("use_ssl = 1\nssl_do_not_verify_server_cert = 2").error();
    assert!(
        error.contains("ssl_do_not_verify_server_cert: give 1 or 0"),
        "{error}"
    );
}

#[test]
fn keys_of_an_unused_ssl_setup_have_no_effect() {
    let setup = setup("use_ssl = 0\nssl_ca = /nonexistent\nssl_cert = /nonexistent");
    assert_eq!(mode(&setup), (SslMode::Prefer, None));
    assert_eq!(setup.database().tls.client, None);
}

#[test]
fn a_client_certificate_needs_its_key_and_the_reverse() {
    let both = setup("use_ssl = 1\nssl_cert = DIR/crt\nssl_key = DIR/key");
    let client = ClientCertificate {
        cert: path(&both, "crt"),
        key: path(&both, "key"),
    };
    assert_eq!(both.database().tls.client, Some(client));
    let error = setup("use_ssl = 1\nssl_cert = DIR/crt").error();
    assert!(
        error.contains("[notifications] ssl_cert: needs ssl_key beside it"),
        "{error}"
    );
    let error = setup("use_ssl = 1\nssl_key = DIR/key").error();
    assert!(
        error.contains("[notifications] ssl_key: needs ssl_cert beside it"),
        "{error}"
    );
    let error = setup("").env("PGSSLCERT", "/nonexistent").error();
    assert!(
        error.contains("PGSSLCERT: needs PGSSLKEY beside it"),
        "{error}"
    );
    let error = setup("").env("PGSSLKEY", "/nonexistent").error();
    assert!(
        error.contains("PGSSLKEY: needs PGSSLCERT beside it"),
        "{error}"
    );
}

#[test]
fn an_unreadable_file_is_named_with_its_key() {
    // A missing file and a directory: unreadable for root, too.
    for (key, file) in [
        ("ssl_ca", "nonexistent"),
        ("ssl_ca", "modules"),
        ("ssl_cert", "modules"),
        ("ssl_key", "nonexistent"),
    ] {
        let mut keys = "use_ssl = 1\n".to_owned();
        for other in ["ssl_ca = DIR/ca", "ssl_cert = DIR/crt", "ssl_key = DIR/key"] {
            let kept = !other.starts_with(key);
            keys += &if kept {
                format!("{other}\n")
            } else {
                format!("{key} = DIR/{file}\n")
            };
        }
        let error = setup(&keys).error();
        assert!(
            error.contains(&format!("[notifications] {key}: DIR/{file}: ")),
            "{error}"
        );
    }
    let error = setup("").env("PGSSLROOTCERT", "/nonexistent").error();
    assert!(
        error.starts_with("environment variable PGSSLROOTCERT: /nonexistent: "),
        "{error}"
    );
}

#[test]
fn the_environments_mode_is_one_of_libpqs_words() {
    for mode_of_env in ["disable", "allow", "prefer", "require"] {
        let setup = setup("").env("PGSSLMODE", mode_of_env);
        assert_eq!(mode(&setup).0.to_string(), mode_of_env);
    }
    for word in ["verify_full", "REQUIRE", "on"] {
        let error = setup("").env("PGSSLMODE", word).error();
        assert!(
            error.starts_with("environment variable PGSSLMODE: give disable, "),
            "{error}"
        );
    }
}

#[test]
fn require_with_an_authority_verifies_it() {
    let setup = setup("").env("PGSSLMODE", "require");
    let ca = path(&setup, "ca");
    let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
    assert_eq!(mode(&setup), (SslMode::VerifyCa, Some(ca)));
}

#[test]
fn verifying_needs_an_authority() {
    for word in ["verify-ca", "verify-full"] {
        let setup = setup("").env("PGSSLMODE", word);
        let error = setup.error();
        assert!(
            error.starts_with("environment variable PGSSLMODE: no root certificate"),
            "{error}"
        );
        let ca = path(&setup, "ca");
        let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
        assert_eq!(mode(&setup).0.to_string(), word);
    }
}

#[test]
fn the_systems_store_always_checks_the_name() {
    let system = || setup("").env("PGSSLROOTCERT", "system");
    assert_eq!(mode(&system()), (SslMode::VerifyFull, None));
    assert_eq!(
        mode(&system().env("PGSSLMODE", "verify-full")),
        (SslMode::VerifyFull, None)
    );
    let error = system().env("PGSSLMODE", "verify-ca").error();
    assert!(error.contains("needs PGSSLMODE=verify-full"), "{error}");
}

#[test]
fn files_at_home_are_used_if_they_exist() {
    let setup = Setup::resource("").at_home();
    let root = setup.file(".postgresql/root.crt", b"PEM", 0o600);
    let key = setup.file(".postgresql/postgresql.key", b"PEM", 0o600);
    assert_eq!(
        setup.database().tls,
        Tls {
            mode: SslMode::Prefer,
            root_cert: Some(root.clone()),
            client: None
        }
    );
    let cert = setup.file(".postgresql/postgresql.crt", b"PEM", 0o600);
    let setup = setup.env("PGSSLMODE", "require");
    let client = Some(ClientCertificate { cert, key });
    assert_eq!(
        setup.database().tls,
        Tls {
            mode: SslMode::VerifyCa,
            root_cert: Some(root),
            client
        }
    );
    let off = setup.env("PGSSLMODE", "disable").database().tls;
    assert_eq!(
        off,
        Tls {
            mode: SslMode::Disable,
            root_cert: None,
            client: None
        }
    );
}
