//! Configures TLS with the server as the resource asks for it.

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;

use super::error::ConnectError;
use crate::config::{Database, SslMode};

pub(super) fn tls(database: &Database) -> Result<MakeTlsConnector, ConnectError> {
    let tls = &database.tls;
    let failed = |what: String| move |source| ConnectError::Tls { what, source };
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(failed("OpenSSL".to_owned()))?;
    let verifies = matches!(tls.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if !verifies {
        builder.set_verify(SslVerifyMode::NONE);
    } else if let Some(file) = &tls.root_cert {
        builder
            .set_ca_file(file)
            .map_err(failed(format!("the root certificate {}", file.display())))?;
    }
    if let Some(client) = &tls.client {
        builder
            .set_certificate_chain_file(&client.cert)
            .map_err(failed(format!("the certificate {}", client.cert.display())))?;
        builder
            .set_private_key_file(&client.key, SslFiletype::PEM)
            .map_err(failed(format!("the key {}", client.key.display())))?;
        builder.check_private_key().map_err(failed(format!(
            "the key {} with the certificate {}",
            client.key.display(),
            client.cert.display()
        )))?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    if tls.mode != SslMode::VerifyFull {
        connector.set_callback(|connection, _| {
            connection.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}
