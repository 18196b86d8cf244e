//! Reading the URL of an etcd. Connects to nothing.

use std::time::Duration;

use kvjob::kv::{Error, ErrorKind, Result};

/// etcd's port for clients.
const PORT: &str = "2379";

/// A URL, taken apart.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) tls: bool,
    /// User and password.
    pub(crate) login: Option<(String, String)>,
    /// `host:port` of each member.
    pub(crate) addresses: Vec<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) compact: Option<Duration>,
    pub(crate) ca: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            // What cannot be taken apart may have a password anywhere in it.
            refused(
                "the URL",
                "write etcd://HOST:PORT, or etcds://HOST:PORT for TLS",
            )
        })?;
        let (authority, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        let name = format!("{scheme}://{hosts}");
        let mut url = Self {
            tls: match scheme {
                "etcd" => false,
                "etcds" => true,
                _ => return Err(refused(&name, "its scheme is neither etcd nor etcds")),
            },
            ..Self::default()
        };
        if let Some(login) = login {
            let (user, password) = login
                .split_once(':')
                .ok_or_else(|| refused(&name, "a user needs a password: USER:PASSWORD@HOST"))?;
            let decoded = decode(user).zip(decode(password));
            url.login = Some(decoded.ok_or_else(|| {
                refused(&name, "user and password must be percent-encoded UTF-8")
            })?);
        }
        for host in hosts.split(',') {
            url.addresses.push(address(host).ok_or_else(|| {
                refused(
                    &name,
                    "list the members as HOST:PORT,HOST:PORT and nothing behind them",
                )
            })?);
        }
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (option, value) = option.split_once('=').unwrap_or((option, ""));
            if option == "compact" {
                let every = duration(value).ok_or_else(|| {
                    refused(
                        &name,
                        "compact= needs a whole number of s, m or h, such as 5m",
                    )
                })?;
                if url.compact.replace(every).is_some() {
                    return Err(refused(&name, "compact stands there twice"));
                }
                continue;
            }
            let place = match option {
                "prefix" => &mut url.prefix,
                "ca" => &mut url.ca,
                "certificate" => &mut url.certificate,
                "key" => &mut url.key,
                _ => {
                    let why = format!(
                        "there is no option {option:?}; there are prefix=TEXT, compact=5m, ca=FILE, \
                         certificate=FILE and key=FILE"
                    );
                    return Err(refused(&name, &why));
                }
            };
            let value = decode(value).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| refused(&name, &format!("{option}= needs a value")))?;
            if place.replace(value).is_some() {
                return Err(refused(&name, &format!("{option} stands there twice")));
            }
        }
        if url.certificate.is_some() != url.key.is_some() {
            return Err(refused(&name, "certificate= and key= need each other"));
        }
        if !url.tls && (url.ca.is_some() || url.certificate.is_some()) {
            return Err(refused(
                &name,
                "certificates are for etcds://, which uses TLS",
            ));
        }
        Ok(url)
    }
}

/// `host:port` of a host with or without a port, if it is one.
fn address(host: &str) -> Option<String> {
    let behind_brackets = host.rfind(']').map_or(0, |end| end + 1);
    let (name, port) = match host.get(behind_brackets..)?.rfind(':') {
        Some(colon) => {
            let (name, port) = host.split_at(behind_brackets + colon);
            (name, port.strip_prefix(':')?)
        }
        None => (host, PORT),
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_name = !name.is_empty() && !name.contains(['/', '#', ' ', '%', '?']);
    (is_port && is_name).then(|| format!("{name}:{port}"))
}

/// A time such as `90s`, `5m` or `1h`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// The text behind percent signs.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let byte = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(byte).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn refused(url: &str, why: &str) -> Error {
    let message = format!("cannot open {url} as an etcd: {why}");
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("etcd://127.0.0.1").ok().unwrap();
        assert_eq!(url.addresses, ["127.0.0.1:2379"]);
        assert!(!url.tls && url.login.is_none() && url.prefix.is_none());
        let text =
            "etcds://ada:p%40ss%3A@a.example:1,[::1]:2,[::2]/?prefix=a%2Fb/&ca=/ca.pem&compact=5m";
        let url = Url::parse(text).ok().unwrap();
        assert_eq!(url.addresses, ["a.example:1", "[::1]:2", "[::2]:2379"]);
        assert_eq!(url.login, Some(("ada".into(), "p@ss:".into())));
        assert_eq!(url.prefix.as_deref(), Some("a/b/"));
        assert_eq!(url.compact, Some(Duration::from_secs(300)));
        assert!(url.tls && url.ca.as_deref() == Some("/ca.pem"));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_shows_no_password() {
        for (bad, why) in [
            ("etcd:u:secret@a", "write etcd://"),
            ("http://u:secret@a", "neither etcd nor etcds"),
            ("etcd://", "list the members"),
            ("etcd://u:secret@a,,b", "list the members"),
            ("etcd://u:secret@a:port", "list the members"),
            ("etcd://a:0", "list the members"),
            ("etcd://a/shop", "list the members"),
            ("etcd://secret@a", "needs a password"),
            ("etcd://u:secret%zz@a", "percent-encoded"),
            ("etcd://u:secret@a?tls=1", "there is no option"),
            ("etcd://a?prefix=", "needs a value"),
            ("etcd://a?prefix=a&prefix=b", "twice"),
            ("etcds://a?certificate=x", "need each other"),
            ("etcd://a?compact=often", "whole number"),
            ("etcd://a?compact=0s", "whole number"),
            ("etcd://a?ca=x", "etcds://"),
        ] {
            let error = Url::parse(bad).err().unwrap();
            let text = error.to_string();
            assert!(text.contains(why), "{bad}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
