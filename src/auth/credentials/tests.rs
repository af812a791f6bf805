use super::*;
use warp::http::HeaderValue;

const ID: &str = "abcdefghijklmnopqrstuv";

fn headers(cookies: &[&[u8]], user_agent: Option<&[u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for cookie in cookies {
        headers.append(COOKIE, HeaderValue::from_bytes(cookie).unwrap());
    }
    if let Some(value) = user_agent {
        headers.insert(USER_AGENT, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn read(cookies: &[&str]) -> Result<String, Refusal> {
    let cookies: Vec<&[u8]> = cookies.iter().map(|cookie| cookie.as_bytes()).collect();
    Credentials::read(&headers(&cookies, None)).map(|credentials| credentials.session_id)
}

#[test]
fn the_cookie_is_found_among_others() {
    let cookie = format!("a=b; Icingaweb2={ID};c=d");
    assert_eq!(read(&[&cookie]).as_deref(), Ok(ID));
    assert_eq!(read(&["x=y", &cookie]).as_deref(), Ok(ID));
    assert_eq!(read(&[&format!("icingaweb2={ID}")]), Err(Refusal::NoCookie));
    assert_eq!(
        read(&[&format!("XIcingaweb2={ID}")]),
        Err(Refusal::NoCookie)
    );
    assert_eq!(read(&[]), Err(Refusal::NoCookie));
}

#[test]
fn the_first_of_two_cookies_counts() {
    let second = ID.to_uppercase();
    let cookie = format!("Icingaweb2={ID}; Icingaweb2={second}");
    assert_eq!(read(&[&cookie]).as_deref(), Ok(ID));
}

#[test]
fn an_encoded_comma_is_a_comma() {
    assert_eq!(
        read(&["Icingaweb2=abcdefghijklmnopqrstu%2C-"]).as_deref(),
        Ok("abcdefghijklmnopqrstu,-")
    );
}

#[test]
fn invalid_session_ids_are_malformed() {
    let long = "a".repeat(257);
    for id in [
        "",
        "short",
        "abcdefghijklmnopqrstu'",
        "abcdefghijklmnopqrstuvé",
        &long,
    ] {
        assert_eq!(
            read(&[&format!("Icingaweb2={id}")]),
            Err(Refusal::Malformed),
            "{id}"
        );
    }
    assert!(read(&[&format!("Icingaweb2={}", &long[1..])]).is_ok());
    let raw = headers(&[b"Icingaweb2=\xff"], None);
    assert_eq!(Credentials::read(&raw).unwrap_err(), Refusal::Malformed);
}

#[test]
fn the_user_agent_is_trimmed_and_has_a_default() {
    let cookie = format!("Icingaweb2={ID}");
    let agent = |value: Option<&[u8]>| {
        Credentials::read(&headers(&[cookie.as_bytes()], value)).map(|c| c.user_agent)
    };
    assert_eq!(
        agent(Some(b" Mozilla/5.0 \t")).as_deref(),
        Ok("Mozilla/5.0")
    );
    assert_eq!(agent(Some(b"")).as_deref(), Ok("default"));
    assert_eq!(agent(None).as_deref(), Ok("default"));
    assert_eq!(agent(Some("Ünicode".as_bytes())).as_deref(), Ok("Ünicode"));
    assert_eq!(agent(Some(b"\xff")), Err(Refusal::Malformed));
}

#[test]
fn debug_output_hides_secrets() {
    assert_eq!(format!("{:?}", BrowserKey::new("abc")), "ba7816");
    let credentials = Credentials::read(&headers(&[b"Icingaweb2=abcdefghijklmnopqrstuv"], None));
    assert_eq!(format!("{:?}", credentials.unwrap()), "Credentials(***)");
}
