//! The INI parser never panics, its errors have a line of the text, and parsed keys can be looked up.
#![no_main]

use icinga_desktop_bridge::config::ini;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = 1 + text.matches(['\n', '\r']).count();
    match ini::parse(text) {
        Ok(file) => {
            for section in file.sections() {
                assert!(file.has_section(section));
                for entry in file.entries(section) {
                    assert!((1..=lines).contains(&entry.line()));
                    let found = file.entry(section, entry.key());
                    assert!(found.is_none_or(|f| f.value().is_some()));
                    // The last one of that name with a value counts.
                    assert!(
                        entry.value().is_none() || found.is_some_and(|f| f.line() >= entry.line())
                    );
                }
            }
        }
        // Line 0 means that the `ini` crate failed on prepared text.
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
    }
});
