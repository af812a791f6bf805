//! The address of Icinga Web.

use hyper::Uri;

/// The error for a text that is not an [`Address`].
#[derive(Debug, thiserror::Error)]
#[error("expected an address such as https://monitoring.example.com/icingaweb2")]
pub struct NoAddress;

/// The address of Icinga Web as browsers use it: `http://` or `https://`, a host, an optional port, and its base path.
#[derive(Debug, Clone)]
pub struct Address(Uri);

impl Address {
    /// Parses a command-line argument.
    ///
    /// # Errors
    ///
    /// [`NoAddress`].
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| NoAddress)?;
        let fine = matches!(uri.scheme_str(), Some("http" | "https"))
            && (uri.authority()).is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none();
        if fine { Ok(Self(uri)) } else { Err(NoAddress) }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host, without the brackets around an IPv6 address.
    pub(super) fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        let default = if self.is_encrypted() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }

    pub(super) fn authority(&self) -> &str {
        self.0
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    /// The path of the stream.
    pub(super) fn path(&self) -> String {
        let base = self.0.path().trim_end_matches('/');
        format!("{base}/notifications/v1/subscribe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_browsers_use() {
        for (text, host, port, path) in [
            (
                "https://a.example/icingaweb2",
                "a.example",
                443,
                "/icingaweb2",
            ),
            (
                "https://a.example/icingaweb2/",
                "a.example",
                443,
                "/icingaweb2",
            ),
            ("http://a.example", "a.example", 80, ""),
            ("http://[::1]:8080/a/b", "::1", 8080, "/a/b"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.path(), format!("{path}/notifications/v1/subscribe"));
        }
        for text in [
            "",
            "a.example",
            "/icingaweb2",
            "ftp://a.example",
            "https://",
            "https://user:secret@a.example/",
            "https://a.example/?a=b",
            "https://a example/",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
