//! [`StoreUrl`]: reading and printing the URL of a store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kvjob::kv::{self, Durability, Error, ErrorKind, Result};

use crate::{Backend, backends};

/// The URL of a store, taken apart. Printed, it keeps a password to itself.
///
/// ```
/// use kvjob_any::StoreUrl;
///
/// let url: StoreUrl = "redb:/var/lib/shop/jobs.redb?namespace=shop".parse()?;
/// assert_eq!(url.scheme, "redb");
/// assert_eq!(url.path, "/var/lib/shop/jobs.redb");
/// assert_eq!(url.namespace.as_deref(), Some("shop"));
/// assert_eq!(url.durability, None, "the default");
/// # Ok::<_, kvjob::kv::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreUrl {
    /// Which backend, as it is called in URLs.
    pub scheme: String,
    /// Where it is, in the backend's own terms: what stands between the first `:` and the first
    /// `?`, as it stands. It may hold a password.
    pub path: String,
    /// The namespace for the job layer.
    pub namespace: Option<String>,
    /// When an acknowledged change is on disk; `None` for the backend's default.
    pub durability: Option<Durability>,
    /// The backend's own options, in their order; without a value where none was given.
    pub options: Vec<(String, Option<String>)>,
}

impl StoreUrl {
    /// The backend it names, whether it is compiled in or not; `None` if there is none.
    pub fn backend(&self) -> Option<Backend> {
        backend_of(&self.scheme)
    }

    /// Opens the store: see [`open`](crate::open).
    ///
    /// # Errors
    /// As [`open`](crate::open).
    pub async fn open(&self) -> Result<Arc<dyn kv::Store>> {
        match self.backend() {
            Some(backend) => backend.open(self.clone()).await,
            None => Err(self.refused(format_args!("there is no backend {:?}", self.scheme))),
        }
    }

    pub(crate) fn refused(&self, why: impl fmt::Display) -> Error {
        refused(&self.to_string(), why)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or("it has no scheme; write redb:PATH for a file")?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let backend = backend_of(scheme);
        let mut url = Self {
            scheme: scheme.to_owned(),
            path: path.to_owned(),
            namespace: None,
            durability: None,
            options: Vec::new(),
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            if let Some(backend) = &backend
                && !backend.takes(name)
            {
                let known = backend.known_options();
                return Err(format!(
                    "{scheme}: takes no option {name:?}; it takes {known}"
                ));
            }
            if value.is_some() && backend.as_ref().is_some_and(|it| it.is_flag(name)) {
                return Err(format!(
                    "{name} takes no value; leave it out where it is not wanted"
                ));
            }
            if url.has(name) {
                return Err(format!("{name} stands there twice"));
            }
            match name {
                "namespace" => match value {
                    Some(value) if !value.is_empty() => url.namespace = Some(value.to_owned()),
                    _ => return Err("namespace= needs a name".to_owned()),
                },
                "durability" => {
                    let durability = value.unwrap_or_default().parse::<Durability>();
                    url.durability = Some(durability.map_err(|error| error.to_string())?);
                }
                _ => {
                    let value = value.map(ToOwned::to_owned);
                    url.options.push((name.to_owned(), value));
                }
            }
        }
        Ok(url)
    }

    /// Whether it has this option.
    pub(crate) fn has(&self, name: &str) -> bool {
        match name {
            "namespace" => self.namespace.is_some(),
            "durability" => self.durability.is_some(),
            _ => self.options.iter().any(|(known, _)| known == name),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|why| refused(&without_password(text), why))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, without_password(&self.path))?;
        let mut separator = '?';
        let mut option = |name: &str, value: Option<&dyn fmt::Display>| {
            write!(f, "{separator}{name}")?;
            separator = '&';
            value.map_or(Ok(()), |value| write!(f, "={value}"))
        };
        if let Some(namespace) = &self.namespace {
            option("namespace", Some(namespace))?;
        }
        if let Some(durability) = &self.durability {
            option("durability", Some(durability))?;
        }
        for (name, value) in &self.options {
            option(name, value.as_ref().map(|value| value as _))?;
        }
        Ok(())
    }
}

/// As it is printed, so that no log gets a password.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

fn backend_of(scheme: &str) -> Option<Backend> {
    let mut backends = backends().into_iter();
    backends.find(|backend| backend.schemes.contains(&scheme))
}

/// The text with three stars for what stands between `//user:` and the last `@` of the authority.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (before, rest) = text.split_once("//")?;
        let authority = rest.split(['/', '?']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        let after = rest.get(user.len()..)?;
        Some(format!("{before}//{name}:***{after}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

/// The error of a URL that cannot be opened, with those that can.
fn refused(url: &str, why: impl fmt::Display) -> Error {
    let known: Vec<&str> = backends()
        .into_iter()
        .filter(Backend::is_enabled)
        .map(|backend| backend.url)
        .collect();
    let message = format!(
        "cannot open the store {url}: {why} (known: {})",
        known.join(", ")
    );
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        for text in [
            "memory:",
            "redb:jobs.redb",
            "redb:///srv/a b/100%.redb?namespace=a&durability=interval:100ms",
            "redb:C:\\jobs.redb?durability=memory",
            "sqlite:jobs.db?namespace=a&shared",
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        let url: StoreUrl = "redb:x?durability=interval:2s&namespace=n".parse().unwrap();
        let every = Duration::from_secs(2);
        assert_eq!(url.durability, Some(Durability::Interval(every)));
        assert_eq!(url.namespace.as_deref(), Some("n"));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_what_can() {
        for (bad, why) in [
            ("jobs.redb", "write redb:PATH"),
            (
                "redb:x?sync=1",
                "redb: takes no option \"sync\"; it takes namespace=NAME, durab",
            ),
            ("redb:x?durability=often", "use immediate, interval:100ms"),
            ("redb:x?namespace=", "needs a name"),
            ("redb:x?namespace=a&namespace=b", "twice"),
            ("redb:x?shared", "takes no option \"shared\""),
            ("sqlite:x?shared=no", "shared takes no value"),
        ] {
            let text = bad.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("memory:"), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        for (text, printed) in [
            (
                "redis://ada:secret@h:1/2?namespace=n",
                "redis://ada:***@h:1/2?namespace=n",
            ),
            ("redis://:secret@h", "redis://:***@h"),
            (
                "postgres://ada:se@cret@h,i:5/db",
                "postgres://ada:***@h,i:5/db",
            ),
            ("etcd://ada@h:1,i:2", "etcd://ada@h:1,i:2"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), printed);
            assert!(!format!("{url:?}").contains("secret"));
        }
        let error = "redb://ada:secret@h?namespace="
            .parse::<StoreUrl>()
            .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_stands_behind_a_path_is_no_password() {
        let text = "redb:/srv/a:b@c.redb";
        assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
    }
}
