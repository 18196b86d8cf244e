//! kvjob on [etcd](https://etcd.io) 3.4 and newer: a store behind a prefix of its keys, which
//! several processes share. Here are opening and options.
//!
//! ```no_run
//! # async fn example() -> kvjob::kv::Result<()> {
//! use kvjob::kv::{Object, Store};
//!
//! let store = kvjob_etcd::open("etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379").await?;
//! store.set(Object::new("greeting", "hello")).await?;
//! store.stop().await?;
//! # Ok(()) }
//! ```

mod address;
mod error;
mod health;
mod marks;
mod members;
mod proto;
mod reading;
mod store;
mod txn;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Result};

pub use store::{Etcd, LIMITS};

use address::Url;
use members::{Access, Members};
use proto::StatusRequest;
use txn::KeySpace;

/// Opens the store in the etcd at this URL; see [`Options::open`].
///
/// # Errors
/// As [`Options::open`].
pub async fn open(url: &str) -> Result<Etcd> {
    Options::new().open(url).await
}

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    prefix: Option<String>,
    login: Option<(String, String)>,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: None,
            login: None,
            ca: None,
            identity: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// The most bytes of a prefix.
    const PREFIX_BYTES: usize = 128;
    /// The oldest etcd that can be used.
    const OLDEST: (u32, u32) = (3, 4);

    /// The prefix `kvjob/`, and a time-out of 10 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Behind which of etcd's keys the store lies; 1 to 128 bytes. Everything there belongs to
    /// it, and nothing else does. Wins over the URL's `prefix=`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Who we are to etcd. Wins over the URL's user.
    #[must_use]
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    /// The file, in PEM format, of the certificate authority to trust with `etcds://`, instead of
    /// the system's. Wins over the URL's `ca=`.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The files, in PEM format, of the certificate and the key to show with `etcds://`. Win over
    /// the URL's `cert=` and `key=`.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// How long a call may take altogether: what is tried again, other members included, is tried
    /// until then.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens the store in the etcd at this URL. Within a tokio runtime.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a URL or an etcd that cannot be used;
    /// [`Transient`](ErrorKind::Transient) if no member answers, which each is asked for once;
    /// [`Backend`](ErrorKind::Backend) for a wrong user or password, missing permissions and
    /// certificates that cannot be read. Each names the address and what to do.
    pub async fn open(&self, url: &str) -> Result<Etcd> {
        let url = Url::parse(url)?;
        let prefix = self.prefix.clone().or(url.prefix);
        let prefix = prefix.as_deref().unwrap_or("kvjob/");
        let space = KeySpace::new(prefix).filter(|_| prefix.len() <= Self::PREFIX_BYTES);
        let space = space.ok_or_else(|| {
            let message = format!(
                "cannot open a store in etcd behind {} bytes of prefix: choose 1 to {} bytes",
                prefix.len(),
                Self::PREFIX_BYTES
            );
            Error::new(ErrorKind::Unsupported, message)
        })?;
        let in_url = url.cert.map(PathBuf::from).zip(url.key.map(PathBuf::from));
        let access = Access {
            tls: url.tls,
            ca: self.ca.clone().or(url.ca.map(PathBuf::from)),
            identity: self.identity.clone().or(in_url),
            login: self.login.clone().or(url.login),
        };
        let members = Members::new(&url.addresses, access, self.timeout)?;
        let opening = |error: Error| {
            // Who speaks TLS hangs up on others without a word.
            let plain = !url.tls && error.kind() == &ErrorKind::Transient;
            let hint = if plain {
                " without TLS, for which write etcds://"
            } else {
                ""
            };
            error.context(format_args!("cannot open the store{hint}"))
        };
        let status = members.read_now(&StatusRequest {}).await.map_err(opening)?;
        if version(&status.version).is_none_or(|version| version < Self::OLDEST) {
            let (major, minor) = Self::OLDEST;
            let message = format!(
                "etcd at {} is of version {}: kvjob needs {major}.{minor} or newer",
                url.addresses.join(","),
                status.version
            );
            return Err(opening(Error::new(ErrorKind::Unsupported, message)));
        }
        // Whether we may read and write, found out without doing either.
        members
            .write_now(&txn::trial(&space))
            .await
            .map(|_| ())
            .or_else(|error| {
                if error.maybe_applied() {
                    Ok(())
                } else {
                    Err(opening(error))
                }
            })?;
        Ok(Etcd::new(members, space))
    }
}

/// Major and minor of a version such as `3.5.12`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("user", &self.login.as_ref().map(|(user, _)| user))
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("3.4.23"), Some((3, 4)));
        assert!(version("3.10.0") > Some(Options::OLDEST));
        assert!(version("3.3.27") < Some(Options::OLDEST));
        assert_eq!(version("not decided"), None);
    }
}
