//! libpq's password file.

use super::*;

const HOME_FILE: &str = ".pgpass";

#[test]
fn the_first_matching_line_gives_each_host_its_password() {
    let setup = Setup::resource("host = \"db1,db2,::1\"\nusername = u\ndbname = n").at_home();
    let lines = b"# db1:*:*:*:comment\nshort:line\ndb1:5433:*:*:port\ndb1:5432:n:u:one\ndb2:*:*:u:t\\:wo\r\n\\:\\:1:*:n:*:th:r\\\\ee\n*:*:*:*:rest\n";
    setup.file(HOME_FILE, lines, 0o600);
    assert_eq!(
        passwords(&setup.database()),
        [Some("one"), Some("t:wo"), Some("th:r\\ee")]
    );
}

#[test]
fn the_default_socket_matches_localhost_and_others_their_path() {
    let setup = Setup::resource("host = \"/var/run/postgresql,/tmp\"").at_home();
    setup.file(
        HOME_FILE,
        b"localhost:*:*:*:default\n/tmp:*:*:*:other\n",
        0o400,
    );
    assert_eq!(
        passwords(&setup.database()),
        [Some("default"), Some("other")]
    );
}

#[test]
fn without_a_username_lines_match_the_operating_system_user() {
    let setup = Setup::resource("").at_home().env("USER", "icinga");
    setup.file(HOME_FILE, b"*:*:*:other:no\n*:*:icinga:icinga:yes\n", 0o600);
    assert_eq!(passwords(&setup.database()), [Some("yes")]);
}

#[test]
fn a_named_file_replaces_the_one_at_home() {
    let setup = Setup::resource("").at_home();
    setup.file(HOME_FILE, b"*:*:*:*:home\n", 0o600);
    let named = setup.file("named", b"*:*:*:*:named\n", 0o600);
    let setup = setup.env("PGPASSFILE", named.to_str().unwrap());
    assert_eq!(passwords(&setup.database()), [Some("named")]);
}

#[test]
fn with_a_password_from_elsewhere_the_file_is_not_read() {
    let setup = Setup::resource("").at_home().env("PGPASSWORD", "variable");
    setup.file(HOME_FILE, b"*:*:*:*:file\n", 0o644);
    assert_eq!(passwords(&setup.database()), [Some("variable")]);
}

#[test]
fn a_file_open_to_others_is_ignored_with_a_warning() {
    for mode in [0o640, 0o604, 0o620] {
        let setup = Setup::resource("").at_home();
        setup.file(HOME_FILE, b"*:*:*:*:hunter2\n", mode);
        let loaded = setup.load().unwrap();
        assert_eq!(passwords(&loaded.config.database), [None]);
        assert_eq!(loaded.warnings.len(), 1);
        assert!(
            loaded.warnings[0].contains("change its mode to 0600"),
            "{:?}",
            loaded.warnings
        );
        assert!(!loaded.warnings[0].contains("hunter2"));
    }
}

#[test]
fn a_named_file_that_cannot_be_used_is_warned_about() {
    let setup = Setup::resource("");
    let binary = setup.file("binary", b"*:*:*:*:\xff\n", 0o600);
    for path in [Path::new("/nonexistent/pgpass"), setup.dir.path(), &binary] {
        let setup = Setup::resource("").env("PGPASSFILE", path.to_str().unwrap());
        let loaded = setup.load().unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{}", path.display());
        assert!(
            loaded.warnings[0].contains("is ignored: "),
            "{:?}",
            loaded.warnings
        );
    }
}
