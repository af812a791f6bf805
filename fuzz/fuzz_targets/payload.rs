//! Payloads of all channels never panic, and nothing of them gets into an error's text.
#![no_main]

use icinga_desktop_bridge::model::notification::{self, Malformed, Marked, Notification, SessionChange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &str| {
    let refused = [
        Notification::parse(payload).err(),
        notification::parse::<SessionChange>(payload).err(),
        notification::parse::<Marked>(payload).err(),
    ];
    for error in refused.into_iter().flatten() {
        match error {
            // All that varies is two numbers; so no word of the text can be the payload's.
            Malformed::Json { column, length, .. } => {
                assert!(column <= length + 1 && length == payload.len())
            }
            Malformed::Fields => {}
        }
    }
});
