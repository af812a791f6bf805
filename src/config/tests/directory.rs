//! Which directory is read.

use super::*;

fn pick(flag: Option<&str>, variable: Option<&str>) -> PathBuf {
    let env = |name: &str| {
        variable
            .filter(|_| name == "ICINGAWEB_CONFIGDIR")
            .map(str::to_owned)
    };
    directory(flag.map(PathBuf::from), &env)
}

#[test]
fn the_flag_beats_the_variable_which_beats_the_default() {
    assert_eq!(pick(Some("/a"), Some("/b")), Path::new("/a"));
    assert_eq!(pick(None, Some("/b")), Path::new("/b"));
    assert_eq!(pick(None, None), Path::new("/etc/icingaweb2"));
}

#[test]
fn an_empty_variable_means_the_default() {
    assert_eq!(pick(None, Some("")), Path::new("/etc/icingaweb2"));
}
