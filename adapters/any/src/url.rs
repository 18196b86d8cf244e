//! [`StoreUrl`]: reading and printing the URL of a store. Knows no backend.

use std::fmt;
use std::str::FromStr;

use kvjob::kv::{Durability, Error, ErrorKind};

/// The URL of a store, taken apart.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreUrl {
    /// Which backend.
    pub scheme: String,
    /// Where it is, in the backend's own terms: what stands between the first `:` and the first
    /// `?`, as it stands.
    pub path: String,
    /// The namespace for the job layer. Opening a store ignores it.
    pub namespace: Option<String>,
    /// When an acknowledged change is on disk; `None` for the backend's default.
    pub durability: Option<Durability>,
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| refused(text, "it has no scheme; write redb:PATH for a file"))?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self {
            scheme: scheme.to_owned(),
            path: path.to_owned(),
            namespace: None,
            durability: None,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let twice = match name {
                "namespace" if value.is_empty() => {
                    return Err(refused(text, "namespace= needs a name"));
                }
                "namespace" => url.namespace.replace(value.to_owned()).is_some(),
                "durability" => {
                    let durability = value.parse().map_err(|error| refused(text, error))?;
                    url.durability.replace(durability).is_some()
                }
                _ => {
                    let why = format!(
                        "there is no option {name:?}; there are namespace=NAME and \
                         durability=immediate|interval:100ms|memory"
                    );
                    return Err(refused(text, why));
                }
            };
            if twice {
                return Err(refused(text, format_args!("{name} stands there twice")));
            }
        }
        Ok(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.path)?;
        let mut separator = '?';
        if let Some(namespace) = &self.namespace {
            write!(f, "{separator}namespace={namespace}")?;
            separator = '&';
        }
        if let Some(durability) = self.durability {
            write!(f, "{separator}durability={durability}")?;
        }
        Ok(())
    }
}

/// The error of a URL that cannot be opened, with those that can.
pub(crate) fn refused(url: &str, why: impl fmt::Display) -> Error {
    let known: Vec<&str> = crate::backends()
        .into_iter()
        .filter(|backend| backend.enabled)
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
            ("redb:x?sync=1", "there is no option \"sync\""),
            ("redb:x?durability=often", "use immediate, interval:100ms"),
            ("redb:x?namespace=", "needs a name"),
            ("redb:x?namespace=a&namespace=b", "twice"),
        ] {
            let text = bad.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("memory:"), "{text}");
        }
    }
}
