//! PostgreSQL's errors as kvjob's: what was applied, what may have been, and what to do.

use std::error::Error as StdError;

use kvjob::kv::{Error, ErrorKind};
use tokio_postgres::error::{DbError, Severity, SqlState};

type PgError = tokio_postgres::Error;

/// An error of a read.
pub(crate) fn reading(source: &PgError) -> Error {
    let kind = match source.as_db_error() {
        Some(said) => match kind(said) {
            // There was nothing to be ordered.
            ErrorKind::Conflict => ErrorKind::Transient,
            kind => kind,
        },
        None if is_garbled(source) => ErrorKind::Corrupt,
        None => ErrorKind::Transient,
    };
    told("PostgreSQL could not read", kind, source)
}

/// An error of a write that was sent. It is in doubt unless PostgreSQL says that it refused.
pub(crate) fn writing(source: &PgError) -> Error {
    match source.as_db_error() {
        Some(said) if is_refusal(said) => told(
            "PostgreSQL could not write, and nothing was applied",
            kind(said),
            source,
        ),
        _ => told(
            "the answer of PostgreSQL to a write was lost, and the write may have been applied or \
             not",
            ErrorKind::Unknown,
            source,
        ),
    }
}

/// An error of what [`open`](crate::open) does once it is connected. Nothing was stored yet.
pub(crate) fn opening(attempt: &str, source: &PgError) -> Error {
    let kind = match source.as_db_error() {
        Some(said) => kind(said),
        None => ErrorKind::Transient,
    };
    told(&format!("could not {attempt}"), kind, source)
}

/// An error of connecting to this address.
pub(crate) fn connecting(address: &str, source: &PgError) -> Error {
    let (kind, advice) = match source.code() {
        Some(code)
            if *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            (
                ErrorKind::Backend,
                "check the user and the password, and pg_hba.conf on the server",
            )
        }
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            (ErrorKind::Backend, "create the database, or name another")
        }
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => (
            ErrorKind::Transient,
            "a store takes five connections; raise max_connections, or run fewer processes",
        ),
        Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => (
            ErrorKind::Transient,
            "the server is starting or stopping; try again",
        ),
        Some(_) => {
            let kind = source.as_db_error().map_or(ErrorKind::Backend, kind);
            (kind, "see the server's log")
        }
        None => match cause(source) {
            Cause::Tls => (
                ErrorKind::Backend,
                "give the certificate of the authority that signed the server's by sslrootcert or \
                 Options::ca_file, use the name that it was made out for, or connect without TLS \
                 by sslmode=disable",
            ),
            Cause::Authentication => (
                ErrorKind::Backend,
                "the server asks for a password or a way to log in that was not given",
            ),
            Cause::Other => (
                ErrorKind::Transient,
                "is the server running, and is this its address?",
            ),
        },
    };
    let message = format!(
        "cannot connect to PostgreSQL at {address}: {}: {advice}",
        text(source)
    );
    Error::new(kind, message)
}

/// Whether it is worth asking again, perhaps on another connection.
pub(crate) fn passes(error: &Error) -> bool {
    error.kind() == &ErrorKind::Transient
}

fn told(what: &str, kind: ErrorKind, source: &PgError) -> Error {
    let advice = source.code().map_or("", advice);
    Error::new(kind, format!("{what}: {}{advice}", text(source)))
}

/// What PostgreSQL says, with the code to look it up by. Its details may hold values, and stay
/// out.
fn text(error: &PgError) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        text = format!("{text}: {because}");
        cause = because.source();
    }
    text
}

enum Cause {
    Tls,
    Authentication,
    Other,
}

/// tokio-postgres does not show its kinds but by what they print.
fn cause(error: &PgError) -> Cause {
    let printed = error.to_string();
    if printed.contains("TLS") {
        Cause::Tls
    } else if printed.contains("authentication") || printed.contains("invalid configuration") {
        Cause::Authentication
    } else {
        Cause::Other
    }
}

/// Whether an answer came that cannot be read.
fn is_garbled(error: &PgError) -> bool {
    let printed = error.to_string();
    printed.contains("deserializing") || printed.contains("parsing response")
}

/// Whether PostgreSQL itself says that the statement failed, and goes on. What ends the whole
/// connection may have come while the statement was being made durable.
fn is_refusal(said: &DbError) -> bool {
    said.parsed_severity() == Some(Severity::Error)
}

fn kind(said: &DbError) -> ErrorKind {
    kind_of(said.code())
}

fn kind_of(code: &SqlState) -> ErrorKind {
    // The class says enough where it has no other member that means something else.
    match code.code() {
        // Serialization failure, deadlock, a lock that was not had in time.
        "40001" | "40P01" | "55P03" => ErrorKind::Conflict,
        // Shut down, crashed, starting, database dropped beside us; a time-out of a statement; a
        // server that only reads, which another one may take the place of.
        code if code.starts_with("57P") || code.starts_with("08") => ErrorKind::Transient,
        "57014" | "25006" | "53200" | "53300" => ErrorKind::Transient,
        "XX001" | "XX002" => ErrorKind::Corrupt,
        _ => ErrorKind::Backend,
    }
}

fn advice(code: &SqlState) -> &'static str {
    match code.code() {
        "53100" => ": make room on the server's disk",
        "42501" => ": GRANT the user what it needs (see the documentation of kvjob-postgres)",
        "42P01" | "42883" => ": the store's table or function was removed; open it again",
        "25006" => ": the server is a standby, or only reads",
        "26000" => {
            ": does a pooler in transaction mode stand in between? kvjob needs the whole session"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_transaction_was_in_the_way_of_is_a_conflict() {
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(kind_of(&SqlState::from_code(code)), ErrorKind::Conflict);
        }
    }

    #[test]
    fn what_passes_by_itself_is_transient() {
        for code in ["57P01", "57P03", "57014", "08006", "25006", "53300"] {
            assert_eq!(kind_of(&SqlState::from_code(code)), ErrorKind::Transient);
        }
    }

    #[test]
    fn what_does_not_is_not() {
        for code in ["53100", "42501", "42P01", "54000"] {
            assert_eq!(kind_of(&SqlState::from_code(code)), ErrorKind::Backend);
        }
    }
}
