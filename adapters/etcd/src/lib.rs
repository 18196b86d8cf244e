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
//!
//! # The URL
//!
//! `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?OPTION&...]`, user and password
//! percent-encoded; `etcds://` speaks TLS. The first member is asked for as long as it answers,
//! then the next, so put the nearest one first.
//!
//! | option | what it says |
//! |---|---|
//! | `prefix=TEXT` | behind which keys the store lies, instead of `kvjob/` |
//! | `compact=5m` | [`Options::compact_every`] |
//! | `ca=FILE` | [`Options::ca_file`] |
//! | `certificate=FILE`, `key=FILE` | [`Options::client_certificate`] |
//!
//! # What is promised
//!
//! | | |
//! |---|---|
//! | an acknowledged change | survives what etcd survives: a majority of its members has synced it, and there is no other mode |
//! | a commit | is one transaction in one round trip; so are many commits that have no key in common |
//! | a read | sees whatever was acknowledged before, by whomever (it is linearizable) |
//! | a member that is away | is left for the next: reads are tried again until the [time-out](Options::timeout), and so is what surely was not sent |
//! | an answer that was lost | is [`Unknown`](ErrorKind::Unknown), never sent again by itself |
//! | a watcher | hears of puts in other processes, and [`Lagged`](kvjob::kv::Event::Lagged) after an outage |
//!
//! The first of many jobs is found as quickly as the first of few, although etcd counts every key
//! of a range for each answer: ranges are cut where few keys are known to be. It is once in several
//! thousand jobs that it takes as long as counting them all.
//!
//! # What is not
//!
//! - etcd keeps what every key was until it is compacted, and walks past what was removed: have it
//!   do so every few minutes (`--auto-compaction-mode=periodic --auto-compaction-retention=5m`). Its
//!   default is never, and then its database fills up. [`health`](kvjob::kv::Store::health) tells.
//! - A database over its quota, 2 GiB by default, takes no more changes. The change with which that
//!   is found is applied and refused alike, so that all of them are
//!   [`Unknown`](ErrorKind::Unknown) then.
//! - A scan in reverse over hundreds of thousands of keys takes seconds the first time: etcd sorts
//!   them all.
//! - etcd sends watchers the values they do not need.
//! - A server whose `--max-request-bytes` or `--max-txn-ops` is below the default refuses large
//!   commits as [`TooLarge`](ErrorKind::TooLarge).

mod address;
mod compact;
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
    compact: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: None,
            login: None,
            ca: None,
            identity: None,
            timeout: Duration::from_secs(10),
            compact: None,
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
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The files, in PEM format, of the certificate and the key to show with `etcds://`. Win over
    /// the URL's `certificate=` and `key=`.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
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

    /// Has etcd forget, so often, what its keys were so long ago, those of others too: for an etcd
    /// of our own that is not set to do so itself. Without, nothing is compacted. Wins over the
    /// URL's `compact=`.
    #[must_use]
    pub fn compact_every(mut self, every: Duration) -> Self {
        self.compact = Some(every);
        self
    }

    /// Opens the store in the etcd at this URL. Within a tokio runtime.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a URL, a certificate or an etcd that cannot be used;
    /// [`Transient`](ErrorKind::Transient) if no member answers, which each is asked for once;
    /// [`Backend`](ErrorKind::Backend) for a wrong user or password and missing permissions. Each
    /// names the address and what to do.
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
        let in_url = url
            .certificate
            .map(PathBuf::from)
            .zip(url.key.map(PathBuf::from));
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
        Ok(Etcd::new(members, space, self.compact.or(url.compact)))
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
            .field("compact", &self.compact)
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
