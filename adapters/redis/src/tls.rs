//! Whom to trust and who we are, where connections are encrypted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvjob::kv::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Certificates of those who vouch for the server; those of the system where there is none.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Reads them. Blocks.
    pub(crate) fn read(&self) -> Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| refused("cannot use TLS", source))?
            .with_root_certificates(self.roots()?);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    certificates(certificate)?,
                    PrivateKeyDer::from_pem_file(key).map_err(|source| unread(key, source))?,
                )
                .map_err(|source| {
                    let what = format!(
                        "cannot use the certificate {} with the key {}",
                        certificate.display(),
                        key.display()
                    );
                    refused(&what, source)
                })?,
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &self.ca {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|source| {
                    let what = format!("cannot trust a certificate of {}", ca.display());
                    refused(&what, source)
                })?;
            }
            return Ok(roots);
        }
        let system = rustls_native_certs::load_native_certs();
        // Some systems have certificates among theirs that nobody can read.
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let why = "this system has no certificates of authorities (ca-certificates); install \
                       them, or name a file by Options::ca_file";
            return Err(refused("cannot use TLS", why));
        }
        Ok(roots)
    }
}

/// The certificates in a file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|source| unread(path, source))?;
    if read.is_empty() {
        return Err(unread(path, pem::Error::NoItemsFound));
    }
    Ok(read)
}

fn unread(path: &Path, source: pem::Error) -> Error {
    let what = format!("cannot read {} as PEM", path.display());
    refused(&what, source)
}

fn refused(what: &str, why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what}: {why}"))
}
