//! The INI parser compared with Icinga Web's: recorded cases, arbitrary text, and the output of Icinga Web's writer.

use icinga_desktop_bridge::config::ini::{self, IniFile};
use proptest::prelude::*;

/// The value that counts.
fn get<'a>(file: &'a IniFile, section: &str, key: &str) -> Option<&'a str> {
    file.entry(section, key).and_then(ini::Entry::value)
}

#[derive(serde::Deserialize)]
struct Case {
    ini: String,
    section: String,
    key: String,
    value: Option<String>,
    error: Option<String>,
}

#[test]
fn every_recorded_case_reads_as_in_icinga_web() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/ini-cases.json"))
        .expect("the fixture is JSON");
    assert!(
        cases.len() > 150,
        "the fixture shrank to {} cases",
        cases.len()
    );
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = match case.error {
            Some(_) => Err(()),
            None => Ok(case.value.clone()),
        };
        let read = ini::parse(&case.ini);
        let found = read
            .as_ref()
            .map(|file| get(file, &case.section, &case.key).map(str::to_owned))
            .map_err(|_| ());
        if found != expected {
            wrong.push(format!("{:?}: {found:?} instead of {expected:?}", case.ini));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Quotes a value as Icinga Web's `IniWriter` does.
fn written(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Values that Icinga Web itself can write and read back: no line breaks or NUL, and no backslash before `n` or `r`, which its
/// reader always takes for a line break.
fn survives(value: &str) -> bool {
    !value.contains(['\n', '\r', '\0']) && !value.contains("\\n") && !value.contains("\\r")
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = ini::parse(&text);
    }

    #[test]
    fn text_made_of_syntax_never_panics(text in r#"[\[\]=;:#"'\\%.nrks \t\r\n\x00\u{feff}\u{a0}é]{0,60}"#) {
        let _ = ini::parse(&text);
    }

    #[test]
    fn written_values_read_back(value in any::<String>().prop_filter("lossy in Icinga Web", |value| survives(value))) {
        let text = format!("[db]\npassword = {}\nafter = \"ok\"\n", written(&value));
        let file = ini::parse(&text).expect("what Icinga Web writes is valid");
        prop_assert_eq!(get(&file, "db", "password"), Some(value.as_str()));
        prop_assert_eq!(get(&file, "db", "after"), Some("ok"));
    }

    #[test]
    fn written_values_made_of_syntax_read_back(
        value in r#"[\[\]=;:#"'\\%.s \tk]{0,20}"#.prop_filter("lossy in Icinga Web", |value| survives(value))
    ) {
        let text = format!("[db]\npassword = {}\n", written(&value));
        let file = ini::parse(&text).expect("what Icinga Web writes is valid");
        prop_assert_eq!(get(&file, "db", "password"), Some(value.as_str()));
    }
}
