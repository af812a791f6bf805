//! Encryption of the database connection and which certificates it trusts: `use_ssl` and `ssl_*` of the resource, or libpq's
//! environment and files.

use std::fs;
use std::path::PathBuf;

use super::Error;
use super::setting::{Place, Section, Setting};

/// libpq's TLS modes (PostgreSQL documentation, "SSL Mode Descriptions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum SslMode {
    /// Never.
    Disable,
    /// Only if the server refuses a connection without TLS.
    Allow,
    /// If the server offers it.
    Prefer,
    /// Always; the server is not verified.
    Require,
    /// Always, with a certificate from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// The client certificate and its key; PEM files that were readable at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// The certificate, or chain.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// TLS of the database connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The mode to use, after libpq's promotion of `require` to `verify-ca`.
    pub(crate) mode: SslMode,
    /// PEM file with the trusted authorities. `None` with `VerifyFull` means the system's store; `VerifyCa` always has one. The
    /// weaker modes ignore it.
    pub(crate) root_cert: Option<PathBuf>,
    /// `None` if the daemon has no certificate.
    pub(crate) client: Option<ClientCertificate>,
}

impl Tls {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, Error> {
        if flag(section, "use_ssl")? {
            from_resource(section)
        } else {
            from_environment(section)
        }
    }
}

/// The resource enables TLS. Settings that it omits come from the environment.
fn from_resource(section: &Section<'_>) -> Result<Tls, Error> {
    let ca = section.key("ssl_ca").map(readable).transpose()?;
    let (mode, root_cert) = if flag(section, "ssl_do_not_verify_server_cert")? {
        (SslMode::Require, None)
    } else {
        let named = || {
            section
                .variable("PGSSLROOTCERT")
                .filter(|root| root.value != "system")
        };
        let root_cert = match ca {
            Some(ca) => Some(ca),
            None => named().map(readable).transpose()?,
        };
        (SslMode::VerifyFull, root_cert)
    };
    let own = client(
        "ssl_cert",
        section.key("ssl_cert"),
        "ssl_key",
        section.key("ssl_key"),
    )?;
    let client = match own {
        Some(own) => Some(own),
        None => client_from_environment(section)?,
    };
    Ok(Tls {
        mode,
        root_cert,
        client,
    })
}

/// The resource does not enable TLS: libpq's rules apply.
fn from_environment(section: &Section<'_>) -> Result<Tls, Error> {
    let mode = match section.variable("PGSSLMODE") {
        None => None,
        Some(word) => match word.value.parse() {
            Ok(mode) => Some((mode, word.place)),
            Err(_) => return Err(Error::SslMode(word.place)),
        },
    };
    let root = section.variable("PGSSLROOTCERT");
    // Since libpq 16: the word `system` instead of a path.
    if let Some(root) = root.as_ref().filter(|root| root.value == "system") {
        if mode.is_some_and(|(mode, _)| mode != SslMode::VerifyFull) {
            return Err(Error::WeakSystemStore(root.place.clone()));
        }
        let client = client_from_environment(section)?;
        return Ok(Tls {
            mode: SslMode::VerifyFull,
            root_cert: None,
            client,
        });
    }
    let (mode, place) = mode.unwrap_or((SslMode::Prefer, Place::Variable("PGSSLMODE")));
    if mode == SslMode::Disable {
        return Ok(Tls {
            mode,
            root_cert: None,
            client: None,
        });
    }
    let root = root.or_else(|| default_file(section, "root.crt"));
    let root_cert = root.map(readable).transpose()?;
    let mode = match (mode, &root_cert) {
        // PostgreSQL documentation, "Client Verification of Server Certificates": for backwards compatibility.
        (SslMode::Require, Some(_)) => SslMode::VerifyCa,
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err(Error::NoRootCertificate(place));
        }
        (mode, _) => mode,
    };
    Ok(Tls {
        mode,
        root_cert,
        client: client_from_environment(section)?,
    })
}

fn client_from_environment(section: &Section<'_>) -> Result<Option<ClientCertificate>, Error> {
    let cert = section
        .variable("PGSSLCERT")
        .or_else(|| default_file(section, "postgresql.crt"));
    // A default key alone has no effect: libpq uses it only with a certificate.
    let default_key = || {
        cert.as_ref()
            .and_then(|_| default_file(section, "postgresql.key"))
    };
    let key = section.variable("PGSSLKEY").or_else(default_key);
    client("PGSSLCERT", cert, "PGSSLKEY", key)
}

fn client(
    cert_name: &'static str,
    cert: Option<Setting>,
    key_name: &'static str,
    key: Option<Setting>,
) -> Result<Option<ClientCertificate>, Error> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(ClientCertificate {
            cert: readable(cert)?,
            key: readable(key)?,
        })),
        (Some(half), None) => Err(Error::HalfCertificate {
            place: half.place,
            missing: key_name,
        }),
        (None, Some(half)) => Err(Error::HalfCertificate {
            place: half.place,
            missing: cert_name,
        }),
        (None, None) => Ok(None),
    }
}

/// The file of that name at libpq's default path, if it exists.
fn default_file(section: &Section<'_>, name: &str) -> Option<Setting> {
    let value = format!("{}/.postgresql/{name}", section.variable("HOME")?.value);
    let path = PathBuf::from(&value);
    path.exists().then_some(Setting {
        value,
        place: Place::File(path),
    })
}

/// Returns the path after reading the file: an error is reported at start and not at a later reconnect.
fn readable(setting: Setting) -> Result<PathBuf, Error> {
    let file = PathBuf::from(setting.value);
    match fs::read(&file) {
        Ok(_) => Ok(file),
        Err(reason) => Err(Error::CertificateFile {
            place: setting.place,
            file,
            reason,
        }),
    }
}

fn flag(section: &Section<'_>, key: &'static str) -> Result<bool, Error> {
    let Some(flag) = section.key(key) else {
        return Ok(false);
    };
    match flag.value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" => Ok(true),
        "0" | "false" | "no" | "off" | "n" => Ok(false),
        _ => Err(Error::Flag(flag.place)),
    }
}
