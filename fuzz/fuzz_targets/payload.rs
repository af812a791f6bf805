//! Payloads of all channels never cause a panic, and no part of them appears in an error.
#![no_main]

use icinga_desktop_bridge::model::notification::{
    SessionChange, SeverityChange, TokenPayload, parse,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &str| {
    let refused = [
        parse::<SeverityChange>(payload).err(),
        parse::<SessionChange>(payload).err(),
        parse::<TokenPayload>(payload).err(),
    ];
    for error in refused.into_iter().flatten() {
        let text = error.to_string();
        // Only two numbers vary, so no word of the text can be from the payload.
        let words = [
            "a missing field or one of a wrong type",
            "an unexpected end",
            "a syntax error",
        ];
        let rest = words.iter().find_map(|words| text.strip_prefix(words));
        let place = rest.and_then(|rest| rest.strip_prefix(" at character "));
        let (column, length) = place
            .and_then(|place| place.split_once(" of "))
            .expect("a place");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        assert_eq!(number(length), payload.len());
        assert!(number(column) <= payload.len() + 1);
    }
});
