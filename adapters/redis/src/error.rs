//! The server's errors as kvjob's: what was applied, what may have been, and what to do.

use std::fmt;

use kvjob::kv::{Error, ErrorKind};
use redis::RedisError;

use crate::address::Node;
use crate::connection::Connection;

/// An answer of the server that is an error.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It did nothing, now; the same may be sent again once this is done.
    Again(Remedy, Error),
    /// It did nothing, and would not do so the next time either.
    Final(Error),
}

/// What is to be done before something is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Give the server its scripts: somebody threw them away.
    LoadScripts,
    /// Ask the node of the cluster that has our keys.
    Follow(Node),
    /// Look for the server that takes writes: this one is a replica by now.
    FindPrimary,
    /// Wait.
    Wait,
}

/// What an error that the server answered means. Our scripts fail before they have written
/// anything, so that nothing was applied, whatever it is.
pub(crate) fn answered(connection: &Connection, source: &RedisError) -> Refusal {
    let node = &connection.node;
    let code = source.code().unwrap_or_default().to_owned();
    let told = told(source);
    let error = |kind, advice: &str| {
        let message =
            format!("the server at {node} refused, and nothing was applied: {told}{advice}");
        Error::new(kind, message).with_source(source.clone())
    };
    let passing = |remedy| Refusal::Again(remedy, error(ErrorKind::Transient, ""));
    match code.as_str() {
        "NOSCRIPT" => passing(Remedy::LoadScripts),
        "MOVED" => match source.redirect_node().and_then(|(to, _)| node.named_by(to)) {
            Some(to) => passing(Remedy::Follow(to)),
            None => passing(Remedy::Wait),
        },
        "READONLY" | "MASTERDOWN" => passing(Remedy::FindPrimary),
        // A slot that is being moved, a cluster without a majority, a server that reads its files,
        // a script of another's that runs for long, too few replicas.
        "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "BUSY" | "NOREPLICAS" => {
            passing(Remedy::Wait)
        }
        "OOM" => {
            let (_, most) = connection.info.memory();
            let most = most.and_then(|most| usize::try_from(most).ok());
            let kind = ErrorKind::TooLarge {
                what: "bytes in the server's memory",
                limit: most.unwrap_or(usize::MAX),
            };
            Refusal::Final(error(
                kind,
                "; remove something, or give the server more memory",
            ))
        }
        "WRONGTYPE" => Refusal::Final(error(
            ErrorKind::Corrupt,
            "; something else was put under our keys: choose another namespace",
        )),
        "MISCONF" => Refusal::Final(error(ErrorKind::Backend, "; look at its disk")),
        _ => Refusal::Final(error(ErrorKind::Backend, "")),
    }
}

/// A server that could not be reached, or not be logged in at.
pub(crate) fn connecting(node: &Node, source: RedisError) -> Error {
    let (kind, advice) = match source.code() {
        Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY") => {
            (ErrorKind::Transient, "; wait until it has done that")
        }
        Some("NOAUTH" | "WRONGPASS") => (
            ErrorKind::Backend,
            "; give the right user and password: redis://user:password@host, or :password@ \
             without a user",
        ),
        Some("NOPERM") => (
            ErrorKind::Backend,
            "; the documentation of kvjob-redis says what a user must be allowed",
        ),
        Some(_) => (ErrorKind::Backend, ""),
        None => (
            ErrorKind::Transient,
            "; is it running, is that its address, and does it expect TLS (rediss://) or not?",
        ),
    };
    let message = format!("cannot use the server at {node}: {}{advice}", told(&source));
    Error::new(kind, message).with_source(source)
}

/// A server that is there and of no use to us.
pub(crate) fn unusable(node: &Node, kind: ErrorKind, why: impl fmt::Display) -> Error {
    Error::new(kind, format!("cannot use the server at {node}: {why}"))
}

/// What was sent and not answered.
pub(crate) fn lost(node: &Node, why: &str, wrote: bool) -> Error {
    if wrote {
        let message = format!(
            "{why} before the server at {node} answered: the change may or may not be applied"
        );
        Error::new(ErrorKind::Unknown, message)
    } else {
        let message = format!("{why} before the server at {node} answered a read");
        Error::new(ErrorKind::Transient, message)
    }
}

/// An answer of another shape than the script has.
pub(crate) fn strange(what: &str) -> Error {
    let message = format!("the server gave an answer that {what} does not have");
    Error::new(ErrorKind::Corrupt, message)
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was stopped")
}

/// What a server says, without the client's words around it.
fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}
