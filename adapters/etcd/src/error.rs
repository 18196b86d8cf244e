//! What etcd and the way to it say, as kvjob's errors: what was applied, what may have been, and
//! what to do. Their words are those of etcd's `rpctypes`.

use std::error::Error as StdError;

use kvjob::kv::{Error, ErrorKind};
use tonic::{Code, ConnectError, Status};

/// Why one try of a call failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) verdict: Verdict,
    text: String,
    status: Option<Status>,
}

/// What a fault means for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was applied, and asking again changes nothing.
    Refused(ErrorKind),
    /// Nothing was applied, and another try may go through.
    Passing,
    /// It may have been applied.
    Doubtful,
    /// Nothing was applied; our token is not known (any more).
    Login,
}

impl Fault {
    pub(crate) fn of(status: Status) -> Self {
        let (verdict, advice) = judge(&status);
        let text = match (status.source(), advice) {
            (_, "") if status.message().is_empty() => status.code().description().to_owned(),
            (None, "") => status.message().to_owned(),
            (None, advice) => format!("{}: {advice}", status.message()),
            // What tonic itself says of a connection is less than its sources say.
            (Some(source), advice) => {
                let root = root(source);
                if advice.is_empty() {
                    root
                } else {
                    format!("{root}: {advice}")
                }
            }
        };
        Self {
            verdict,
            text,
            status: Some(status),
        }
    }

    /// There was no answer in time.
    pub(crate) fn silent() -> Self {
        Self {
            verdict: Verdict::Doubtful,
            text: "it did not answer in time".to_owned(),
            status: None,
        }
    }

    /// The connection took nothing to send.
    pub(crate) fn unsent(error: &dyn StdError) -> Self {
        Self {
            verdict: Verdict::Passing,
            text: root(error),
            status: None,
        }
    }

    /// etcd gave a token that cannot be sent.
    pub(crate) fn no_token() -> Self {
        Self {
            verdict: Verdict::Refused(ErrorKind::Backend),
            text: "its token for our user is no text".to_owned(),
            status: None,
        }
    }

    /// The same where it is known that nothing was applied.
    pub(crate) fn unapplied(mut self) -> Self {
        if self.verdict == Verdict::Doubtful {
            self.verdict = Verdict::Passing;
        }
        self
    }

    pub(crate) fn is_without_authentication(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.message().ends_with("authentication is not enabled"))
    }
}

/// The fault of the last try of a call as its error.
pub(crate) fn of(fault: Fault, address: &str, writes: bool) -> Error {
    let Fault {
        verdict,
        text,
        status,
    } = fault;
    let kind = match verdict {
        Verdict::Refused(kind) => kind,
        Verdict::Doubtful if writes => ErrorKind::Unknown,
        Verdict::Passing | Verdict::Doubtful => ErrorKind::Transient,
        Verdict::Login => ErrorKind::Backend,
    };
    let doubt = if kind == ErrorKind::Unknown {
        "; the change may or may not be there"
    } else {
        ""
    };
    let error = Error::new(kind, format!("etcd at {address}: {text}{doubt}"));
    match status {
        Some(status) => error.with_source(status),
        None => error,
    }
}

fn judge(status: &Status) -> (Verdict, &'static str) {
    use Verdict::{Doubtful, Login, Passing, Refused};

    if is_unconnected(status) {
        return (Passing, "is it running there?");
    }
    let text = status.message();
    let says = |part| text.contains(part);
    if says("invalid auth token") || says("revision of auth store is old") {
        (Login, "it does not know us any more")
    } else if says("no leader") {
        // Checked before anything is proposed: it is what `hasleader` asks for.
        (Passing, "most members are away, or cannot reach each other")
    } else if says("too many requests")
        || says("raft proposal dropped")
        || says("rpc not supported for learner")
    {
        (Passing, "")
    } else if says("required revision") {
        // Of a page that took several trips, while etcd compacted: the call begins anew.
        (Refused(ErrorKind::Transient), "")
    } else if says("database space exceeded") {
        // The change with which the quota is found to be exceeded is applied and gets the same
        // answer as those that are refused afterwards.
        (
            Doubtful,
            "make room: compact its history, defragment each member, then `etcdctl alarm disarm`",
        )
    } else if says("request is too large") || says("larger than max") {
        let limit = crate::txn::REQUEST_BYTES;
        let what = "request";
        (
            Refused(ErrorKind::TooLarge { what, limit }),
            "its --max-request-bytes is below the default, which kvjob needs",
        )
    } else if says("too many operations in txn") {
        let limit = crate::LIMITS.commit_changes;
        let what = "changes in a commit";
        (
            Refused(ErrorKind::TooLarge { what, limit }),
            "its --max-txn-ops is below the default, which kvjob needs",
        )
    } else if says("user name is empty") {
        (
            Refused(ErrorKind::Backend),
            "it wants a user: etcd://USER:PASSWORD@HOST",
        )
    } else if says("authentication failed") {
        (Refused(ErrorKind::Backend), "check user and password")
    } else if says("permission denied") {
        (
            Refused(ErrorKind::Backend),
            "the user needs a role with readwrite on the keys under our prefix",
        )
    } else if says("corrupt cluster") {
        (
            Refused(ErrorKind::Backend),
            "its members hold different data: see etcd's documentation on data corruption",
        )
    } else {
        match status.code() {
            Code::Unimplemented => (
                Refused(ErrorKind::Unsupported),
                "what listens there is not etcd 3.4 or newer",
            ),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::NotFound
            | Code::OutOfRange => (Refused(ErrorKind::Backend), ""),
            // "request timed out", "leader changed", "server stopped", a connection that broke: a
            // proposal may have been on its way.
            _ => (Doubtful, ""),
        }
    }
}

/// Whether it failed because no connection came about, so that nothing was sent.
fn is_unconnected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The innermost error's words.
fn root(error: &dyn StdError) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, message: &str, writes: bool) -> ErrorKind {
        of(Fault::of(Status::new(code, message)), "here", writes)
            .kind()
            .clone()
    }

    #[test]
    fn what_may_have_been_proposed_is_in_doubt_and_for_a_read_passes() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Unknown, "transport error"),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
        ] {
            assert_eq!(kind(code, message, true), ErrorKind::Unknown, "{message}");
            assert_eq!(
                kind(code, message, false),
                ErrorKind::Transient,
                "{message}"
            );
        }
    }

    #[test]
    fn what_was_not_proposed_is_worth_another_try() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::Unknown, "raft proposal dropped"),
        ] {
            assert_eq!(kind(code, message, true), ErrorKind::Transient, "{message}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, message, advice) in [
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                "USER:PASSWORD",
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "readwrite",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "--max-request-bytes",
            ),
        ] {
            let error = of(Fault::of(Status::new(code, message)), "here", true);
            let text = error.to_string();
            assert!(text.contains(message) && text.contains(advice), "{text}");
            assert!(!error.maybe_applied() && !error.is_retryable(), "{error:?}");
        }
    }
}
