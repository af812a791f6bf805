//! Credentials in a request's headers, compared with a second implementation that reads the cookie byte by byte.

use icinga_desktop_bridge::auth::Credentials;
use icinga_desktop_bridge::model::browser::BrowserKey;
use icinga_desktop_bridge::model::ids::HistoryId;
use icinga_desktop_bridge::model::returned::{LastEventId, Mark};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use warp::http::header::COOKIE;
use warp::http::{HeaderMap, HeaderValue};

use super::values::number;

fn session_id() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9,-]{22,40}", "[A-Za-z0-9,-]{250,256}"]
}

/// What a header can hold: no control characters but the tab.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![Just(b'\t'), 0x20..0x7f_u8, 0x80..=0xff_u8],
        0..80,
    )
}

/// Bytes that are often nearly a session cookie.
fn cookie_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        header_bytes(),
        Just(b"; ".to_vec()),
        Just(b"Icingaweb2=".to_vec()),
        "[A-Za-z0-9,-]{20,24}".prop_map(String::into_bytes),
        "(%2C|%2c|%41|%00|%C3|%|=|;|é| )".prop_map(String::into_bytes),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn headers(cookies: &[Vec<u8>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        headers.append(
            COOKIE,
            HeaderValue::from_bytes(cookie).expect("valid in a header"),
        );
    }
    headers
}

/// The session cookie's value as PHP reads it, byte by byte and without the crates.
fn expected(cookies: &[Vec<u8>]) -> Option<String> {
    let pairs = cookies
        .iter()
        .flat_map(|cookie| cookie.split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(b"Icingaweb2="));
    let (mut raw, mut id) = (values.next()?, String::new());
    while let Some((first, rest)) = raw.split_first() {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        let encoded = match (first, rest) {
            (b'%', [high, low, ..]) => hex(high).zip(hex(low)),
            _ => None,
        };
        let (byte, rest) = match encoded {
            Some((high, low)) => (u8::try_from(high * 16 + low).ok()?, &rest[2..]),
            None => (*first, rest),
        };
        let good = byte.is_ascii_alphanumeric() || byte == b',' || byte == b'-';
        id.push(char::from(good.then_some(byte)?));
        raw = rest;
    }
    (22..=256).contains(&id.len()).then_some(id)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(cookies in vec(header_bytes(), 0..5)) {
        let _ = Credentials::read(&headers(&cookies));
    }

    #[test]
    fn nothing_but_the_first_cookies_valid_id_is_accepted(cookies in vec(cookie_bytes(), 0..5)) {
        let read = Credentials::read(&headers(&cookies)).ok();
        let expected = expected(&cookies);
        prop_assert_eq!(
            read.map(|credentials| credentials.browser()),
            expected.map(|id| BrowserKey::new(&id))
        );
    }

    #[test]
    fn a_valid_id_is_found_anywhere_among_other_cookies(
        id in session_id(),
        others in vec("[a-z_]{1,8}=[!-:<-~]{0,20}", 1..40),
        place in any::<Index>(),
        separator in select(vec![";", "; ", " ;\t"]),
        header_size in 1..10_usize,
    ) {
        let mut pairs = others;
        // PHP's own spelling of the comma.
        pairs.insert(place.index(pairs.len() + 1), format!("Icingaweb2={}", id.replace(',', "%2C")));
        let cookies: Vec<_> =
            pairs.chunks(header_size).map(|pairs| pairs.join(separator).into_bytes()).collect();
        let credentials = Credentials::read(&headers(&cookies));
        prop_assert_eq!(credentials.map(|credentials| credentials.browser()), Ok(BrowserKey::new(&id)));
    }

    #[test]
    fn debug_output_shows_nothing_of_the_id(id in session_id()) {
        let credentials = Credentials::read(&headers(&[format!("Icingaweb2={id}").into_bytes()]));
        prop_assert_eq!(format!("{credentials:?}"), "Ok(Credentials(***))");
    }

    #[test]
    fn only_positive_integers_are_taken_as_rows(
        value in prop_oneof![
            ".*".prop_map(String::into_bytes),
            "[+-]?[0-9]{0,21}".prop_map(String::into_bytes),
            number().prop_map(|id| id.to_string().into_bytes()),
        ]
    ) {
        let text = std::str::from_utf8(&value).expect("text");
        let read = LastEventId::parse(text);
        // A number written by hand; a leading + does no harm.
        let digits = value.strip_prefix(b"+").unwrap_or(&value);
        let number = digits.iter().try_fold(0_i128, |number, byte| {
            let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
            Some((number * 10 + digit).min(i128::from(i64::MAX) + 1))
        });
        let expected = number.and_then(|number| i64::try_from(number).ok()).filter(|id| *id > 0);
        prop_assert_eq!(read.and_then(LastEventId::row), expected.map(HistoryId));
    }

    #[test]
    fn marks_are_read_as_they_are_written(number in any::<u64>()) {
        let mark = Mark(number);
        let read = LastEventId::parse(&mark.to_string());
        prop_assert_eq!(read, Some(LastEventId::Mark(mark)));
    }
}
