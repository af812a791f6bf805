//! Headers of any bytes never cause a panic; an accepted id is one that PHP can have made; nothing shows it.
#![no_main]

use icinga_desktop_bridge::auth::Credentials;
use icinga_desktop_bridge::model::returned::LastEventId;
use libfuzzer_sys::fuzz_target;
use warp::http::header::{COOKIE, USER_AGENT};
use warp::http::{HeaderMap, HeaderValue};

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    // The first byte of each line selects the header of the rest.
    for line in data.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else {
            continue;
        };
        let Ok(value) = HeaderValue::from_bytes(value) else {
            continue;
        };
        match which {
            b'u' => headers.append(USER_AGENT, value),
            b'l' => {
                let read = value.to_str().ok().and_then(LastEventId::parse);
                assert!(read.and_then(LastEventId::row).is_none_or(|id| id.0 > 0));
                continue;
            }
            _ => headers.append(COOKIE, value),
        };
    }
    if let Ok(credentials) = Credentials::read(&headers) {
        assert_eq!(format!("{credentials:?}"), "Credentials(***)");
        // No valid id without that many bytes after the name in one of the cookies.
        assert!(
            headers
                .get_all(COOKIE)
                .iter()
                .any(|cookie| cookie.len() >= "Icingaweb2=".len() + 22)
        );
    }
});
