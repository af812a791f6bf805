//! The two files: missing, unreadable, or not INI.

use super::*;

fn replaced(file: &str, by: impl FnOnce(&Path)) -> String {
    let setup = Setup::daemon("");
    let path = setup.dir.path().join(file);
    fs::remove_file(&path).unwrap();
    by(&path);
    setup.error()
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    for file in ["modules/notifications/config.ini", "resources.ini"] {
        let error = replaced(file, |_| ());
        assert!(
            error.starts_with(&format!("DIR/{file} does not exist: configure ")),
            "{error}"
        );
        assert!(error.contains("--config-dir"), "{error}");
    }
}

#[test]
fn a_directory_in_place_of_a_file_is_reported() {
    for file in ["modules/notifications/config.ini", "resources.ini"] {
        let error = replaced(file, |path| fs::create_dir(path).unwrap());
        assert!(
            error.starts_with(&format!("DIR/{file} is a directory")),
            "{error}"
        );
    }
}

#[test]
fn text_that_is_not_utf_8_is_named_with_its_line() {
    for file in ["modules/notifications/config.ini", "resources.ini"] {
        let error = replaced(file, |path| fs::write(path, b"[s]\n\nk = \xe4\n").unwrap());
        assert!(
            error.starts_with(&format!("DIR/{file}, line 3: not UTF-8")),
            "{error}"
        );
    }
}

#[test]
fn another_reason_why_a_file_cannot_be_opened_is_reported() {
    // A link to itself: fails for root, too.
    let link = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
    let error = replaced("resources.ini", link);
    assert!(
        error.starts_with("DIR/resources.ini cannot be read: "),
        "{error}"
    );
}

#[test]
fn a_file_without_permission_advises_the_group() {
    let setup = Setup::daemon("");
    let path = setup.dir.path().join("resources.ini");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = if fs::File::open(&path).is_ok() {
        // Root can read everything, so this cannot be tested with a file; only the message is.
        Error::PermissionDenied {
            file: "DIR/resources.ini".into(),
        }
        .to_string()
    } else {
        setup.error()
    };
    assert!(
        error.starts_with("DIR/resources.ini: permission denied: "),
        "{error}"
    );
    assert!(error.contains("group icingaweb2"), "{error}");
}

#[test]
fn a_syntax_error_names_file_and_line() {
    let error = Setup::new("[database]\nresource = db\n [x]\n", "").error();
    assert!(
        error.starts_with("DIR/modules/notifications/config.ini, line 3: a section"),
        "{error}"
    );
}

#[test]
fn a_config_without_a_resource_says_which_key_to_set() {
    for config in [
        "",
        "[database]\n",
        "[database]\nresource =\n",
        "[Database]\nresource = db\n",
    ] {
        let error = Setup::new(config, "").error();
        assert!(
            error.starts_with("DIR/modules/notifications/config.ini: no resource in [database]"),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_resource_is_reported_with_the_existing_ones() {
    let error = Setup::new(RESOURCE, "[web db]\npassword = hunter2\n[a]\n").error();
    assert!(
        error.starts_with("DIR/resources.ini: no section [notifications]"),
        "{error}"
    );
    assert!(error.ends_with("[a], [web db]"), "{error}");
    assert!(Setup::new(RESOURCE, "").error().contains("no sections"));
}
