//! [`Address`]: what a URL says of where the server is and how one logs in there. Nobody connects
//! here.

use std::fmt;
use std::path::PathBuf;

use kvjob::kv::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

const PORT: u16 = 6379;

/// A server, or several that stand for each other.
#[derive(Clone)]
pub(crate) struct Address {
    /// At least one.
    pub(crate) nodes: Vec<Node>,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Reads `redis://[user[:password]@]host[:port][,host[:port]]...[/database]`; `rediss:` is the
    /// same over TLS, `valkey:` and `valkeys:` are other names of the two, and
    /// `redis+unix://[user[:password]@]/path` is a socket of this machine.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(refused("it does not begin with redis://"));
        };
        let (tls, unix) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+unix" | "valkey+unix" => (false, true),
            _ => return Err(refused("its scheme is none of these")),
        };
        if rest.contains(['?', '#']) {
            return Err(refused(
                "it has a ? or a #; write %3F or %23 in a password, and choose the rest by Options",
            ));
        }
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (login, rest),
            None => ("", rest),
        };
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (login, None),
        };
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        if user.is_some() && password.is_none() {
            return Err(refused(
                "it has a user without a password; write user:password@, or :password@ without a user",
            ));
        }
        let (nodes, database) = if unix {
            if !rest.starts_with('/') {
                return Err(refused("the path of its socket does not begin with /"));
            }
            (vec![Node::Unix(decoded(rest)?.into())], 0)
        } else {
            let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
            let nodes = hosts.split(',').map(Node::parse).collect::<Option<_>>();
            let nodes = nodes.ok_or_else(|| {
                refused(format_args!("{hosts:?} is not host:port[,host:port]..."))
            })?;
            let database = match database.trim_end_matches('/') {
                "" => Some(0),
                number => number.parse().ok().filter(|number| *number >= 0),
            };
            (
                nodes,
                database
                    .ok_or_else(|| refused("what follows its / is not the number of a database"))?,
            )
        };
        Ok(Self {
            nodes,
            tls,
            user,
            password,
            database,
        })
    }
}

impl Node {
    /// Reads `host`, `host:port` or `[address]:port`.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                },
            )
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = port.map_or(Some(PORT), |port| {
            port.parse().ok().filter(|port| *port > 0)
        })?;
        (!host.is_empty()).then(|| Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The node which a node of a cluster names as `host:port`; it names its own host by none.
    pub(crate) fn named_by(&self, text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        // A node whose address is not known has the port 0.
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = match (host, self) {
            ("", Self::Tcp { host, .. }) => host,
            ("" | "?", _) => return None,
            (host, _) => host.trim_start_matches('[').trim_end_matches(']'),
        };
        let host = host.to_owned();
        Some(Self::Tcp { host, port })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Without what one logs in with.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if place == 0 { "" } else { "," })?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("nodes", &self.nodes)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| refused("what it percent-encodes is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// The URL itself is not told: it may hold a password.
fn refused(why: impl fmt::Display) -> Error {
    let message = format!(
        "cannot read the URL of a Redis or Valkey server: {why} (known: \
         redis://[user:password@]host[:port][,host[:port]]...[/database], rediss:// for TLS, \
         redis+unix://[user:password@]/path/of/socket)"
    );
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Node {
        let host = host.to_owned();
        Node::Tcp { host, port }
    }

    #[test]
    fn every_part_of_a_url_is_read() {
        let address = Address::parse("redis://localhost").unwrap();
        assert_eq!(address.nodes, [tcp("localhost", 6379)]);
        assert_eq!((address.tls, address.database), (false, 0));
        assert_eq!((address.user, address.password), (None, None));

        let address = Address::parse("rediss://ada:a%40b:c@[::1]:1,h2,h3:3/4").unwrap();
        assert_eq!(address.to_string(), "[::1]:1,h2:6379,h3:3/4");
        assert!(address.tls);
        assert_eq!(address.user.as_deref(), Some("ada"));
        assert_eq!(address.password.as_deref(), Some("a@b:c"));

        let address = Address::parse("redis+unix://:secret@/run/redis.sock").unwrap();
        assert_eq!(address.nodes, [Node::Unix("/run/redis.sock".into())]);
        assert_eq!(address.user, None);
        assert_eq!(address.password.as_deref(), Some("secret"));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_never_the_password() {
        for (bad, why) in [
            ("localhost:secret", "does not begin with redis://"),
            ("http://localhost/secret", "scheme"),
            ("redis://:secret@", "not host:port"),
            ("redis://:secret@h:port", "not host:port"),
            ("redis://:secret@h:0", "not host:port"),
            ("redis://:secret@h,,h2", "not host:port"),
            ("redis://:secret@[::1", "not host:port"),
            ("redis://secret@h", "without a password"),
            ("redis://:secret@h/jobs", "number of a database"),
            ("redis://:secret@h/-1", "number of a database"),
            ("redis://:secret%ff@h", "not UTF-8"),
            ("redis://:sec?ret@h", "%3F"),
            ("redis+unix://:secret@run/redis.sock", "begin with /"),
        ] {
            let error = Address::parse(bad).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(why), "{bad}: {text}");
            assert!(!text.contains("secret"), "{bad}: {text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let address = Address::parse("redis://ada:secret@h").unwrap();
        let text = format!("{address} {address:?}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_cluster_names_its_nodes() {
        let node = tcp("h", 1);
        assert_eq!(node.named_by("10.0.0.1:2"), Some(tcp("10.0.0.1", 2)));
        assert_eq!(node.named_by("::1:2"), Some(tcp("::1", 2)));
        assert_eq!(node.named_by(":2"), Some(tcp("h", 2)));
        assert_eq!(node.named_by("?:2"), None);
        assert_eq!(node.named_by(":0"), None);
        assert_eq!(node.named_by("h"), None);
    }
}
