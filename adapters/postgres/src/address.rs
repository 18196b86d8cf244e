//! Where the server is, and how it is spoken to: the URL, and TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What TLS is made of besides the system's own roots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// A URL, taken apart.
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) files: Files,
}

impl Address {
    /// Reads a URL as libpq does, with the options that tokio-postgres knows, and those that say
    /// where certificates are.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let mut files = Files::default();
        let (place, options) = url.split_once('?').unwrap_or((url, ""));
        if !place.starts_with("postgres://") && !place.starts_with("postgresql://") {
            // It is not printed: whatever it is, a password may be in it.
            return Err(refused("it does not begin with postgres://"));
        }
        let mut rest = Vec::new();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value) {
                ("sslrootcert", _) => files.ca = Some(path(value)?),
                ("sslcert", _) => files.certificate = Some(path(value)?),
                ("sslkey", _) => files.key = Some(path(value)?),
                // Whenever there is TLS, the certificate and the name are checked.
                ("sslmode", "verify-ca" | "verify-full") => rest.push("sslmode=require"),
                _ => rest.push(option),
            }
        }
        let options = if rest.is_empty() {
            String::new()
        } else {
            format!("?{}", rest.join("&"))
        };
        let config = format!("{place}{options}").parse::<Config>();
        let mut config = config.map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            refused(why.as_deref().unwrap_or("it cannot be read"))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refused("it names no host"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(refused("it names no user"));
        }
        if config.get_application_name().is_none() {
            config.application_name("kvjob");
        }
        Ok(Self { config, files })
    }
}

/// A path, percent-decoded.
fn path(text: &str) -> Result<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let decoded = digit(rest.next()).zip(digit(rest.next()));
            let decoded = decoded.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            decoded.ok_or_else(|| refused("a % stands without two digits behind it"))?
        } else {
            byte
        });
    }
    let text = String::from_utf8(bytes);
    text.map(PathBuf::from)
        .map_err(|_| refused("a path in it is not UTF-8"))
}

fn refused(why: &str) -> Error {
    let message = format!(
        "cannot read the URL of the PostgreSQL server: {why}; it looks like \
         postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require, with options as libpq's \
         (sslmode, sslrootcert, sslcert, sslkey, target_session_attrs, ...), and what is special \
         in a name or a password percent-encoded"
    );
    Error::new(ErrorKind::Unsupported, message)
}

/// Where the server is, for messages: no password, and nothing else that is secret.
pub(crate) fn printed(config: &Config) -> String {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let hosts: Vec<String> = if config.get_hosts().is_empty() {
        addresses.collect()
    } else {
        names.collect()
    };
    let ports = config.get_ports();
    let port = |place: usize| ports.get(place).or_else(|| ports.first()).unwrap_or(&5432);
    let hosts: Vec<String> = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| format!("{host}:{}", port(place)))
        .collect();
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    format!("{}/{database} (as {user})", hosts.join(","))
}

/// Fills in what neither the URL nor the user said.
pub(crate) fn complete(config: &mut Config, timeout: Duration) {
    /// What tokio-postgres takes where nothing was said.
    const UNSAID: Duration = Duration::from_secs(2 * 60 * 60);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(timeout);
    }
    if config.get_keepalives_idle() == UNSAID {
        // Less is refused by the system.
        config.keepalives_idle(timeout.max(Duration::from_secs(1)));
    }
}

/// TLS that checks the server's certificate and name, against the system's roots or those given.
/// Reads files, and so blocks.
pub(crate) fn tls(config: &Config, files: &Files) -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(path, &error))?;
        }
    } else if config.get_ssl_mode() != SslMode::Disable {
        // Where there are none the handshake says that the authority is not known.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            let message = format!("TLS cannot be used: {error}");
            Error::new(ErrorKind::Backend, message)
        })?
        .with_root_certificates(roots);
    let client = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key);
            let private = private.map_err(|error| unusable(key, &error))?;
            let client = builder.with_client_auth_cert(chain, private);
            client.map_err(|error| unusable(key, &error))?
        }
        _ => {
            let message = "a client certificate (sslcert) and its key (sslkey) go together, and \
                           one of them is missing";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    Ok(MakeRustlsConnect::new(client))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|error| unusable(path, &error))?;
    if read.is_empty() {
        return Err(unusable(path, &"it holds no certificate"));
    }
    Ok(read)
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> Error {
    let message = format!(
        "cannot use {} for TLS: {why}; it must be a readable PEM file",
        path.display()
    );
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let address = Address::parse(url);
        address.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_url_is_read_as_libpq_does() {
        let url = "postgresql://ada:se%40cret@db1:5433,db2:5434/shop?sslmode=verify-full\
                   &sslrootcert=/etc/a%20b.pem&connect_timeout=3&target_session_attrs=read-write";
        let Address { config, files } = Address::parse(url).unwrap();
        assert_eq!(config.get_password(), Some(&b"se@cret"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(files.ca, Some("/etc/a b.pem".into()));
        assert_eq!(printed(&config), "db1:5433,db2:5434/shop (as ada)");
    }

    #[test]
    fn what_cannot_be_read_says_why_and_never_the_password() {
        for (url, why) in [
            ("redis://ada:hunter2@db", "begin with postgres://"),
            ("ada:hunter2@db", "begin with postgres://"),
            ("postgres://ada:hunter2@db:port/shop", "port"),
            ("postgres://ada:hunter2@db/shop?sync=on", "sync"),
            ("postgres://ada:hunter2@db/shop?sslmode=always", "sslmode"),
            ("postgres://ada:hunter2@/shop", "no host"),
            ("postgres://db/shop", "no user"),
            ("postgres://ada:hunter2@db/shop?sslrootcert=%zz", "%"),
        ] {
            let text = refusal(url);
            assert!(text.contains(why), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let files = Files {
            certificate: Some("/etc/client.pem".into()),
            ..Files::default()
        };
        let refused = tls(&Config::new(), &files).map(drop).unwrap_err();
        assert!(refused.to_string().contains("sslkey"), "{refused}");
    }
}
