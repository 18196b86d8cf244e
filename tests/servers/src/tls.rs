//! Certificates for servers on the loopback interface, and for those who connect to them.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// A certificate authority of its own, and what it signed, as files in PEM format.
#[derive(Debug)]
pub struct Certificates {
    /// The authority.
    pub ca: PathBuf,
    /// For a server on 127.0.0.1 or localhost, and its key.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// For a client.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
    _directory: TempDir,
}

impl Certificates {
    /// New ones.
    ///
    /// # Panics
    /// If they cannot be made or written.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, pem: String| {
            let path = directory.path().join(name);
            fs::write(&path, pem).expect("the directory can be written");
            path
        };
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for one that signed itself if its signer has its name.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let sign = |name: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let params = CertificateParams::new(names).expect("names");
            let key = KeyPair::generate().expect("a key");
            let signed = params.signed_by(&key, &ca).expect("a certificate");
            (
                write(&format!("{name}.pem"), signed.pem()),
                write(&format!("{name}.key"), key.serialize_pem()),
            )
        };
        let (server, server_key) = sign("server", &["localhost", "127.0.0.1"]);
        let (client, client_key) = sign("client", &["client"]);
        Self {
            ca: write("ca.pem", ca.pem()),
            server,
            server_key,
            client,
            client_key,
            _directory: directory,
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
