//! The scripts that run in the server, and the commands that call them. Each runs alone there, so
//! that its reads agree with each other and nobody sees half of its writes.

use std::ops::Bound;
use std::sync::LazyLock;

use kvjob::kv::{Change, Direction, Expect, Key, Scan};
use redis::{Cmd, Script, cmd};

/// A script's text, and the name under which the server keeps it.
#[derive(Debug)]
struct Lua {
    text: &'static str,
    sha: String,
}

impl Lua {
    fn new(text: &'static str) -> Self {
        let sha = Script::new(text).get_hash().to_owned();
        Self { text, sha }
    }
}

/// A script of these flags and parts.
macro_rules! lua {
    ($flags:literal, $($part:literal),+) => {
        LazyLock::new(|| Lua::new(concat!("#!lua", $flags, "\n", $(include_str!($part)),+)))
    };
}

/// Commits that put something: refused while the server has no memory for more.
static COMMIT: LazyLock<Lua> = lua!("", "scripts/guard.lua", "scripts/commit.lua");
/// Commits that put nothing: they make room, and so must work where there is none.
static REMOVE: LazyLock<Lua> = lua!(
    " flags=allow-oom",
    "scripts/guard.lua",
    "scripts/commit.lua"
);
static DELETE: LazyLock<Lua> = lua!(
    " flags=allow-oom",
    "scripts/guard.lua",
    "scripts/delete.lua"
);
static SCAN: LazyLock<Lua> = lua!(" flags=no-writes", "scripts/scan.lua");
static INSPECT: LazyLock<Lua> = lua!(" flags=no-writes", "scripts/inspect.lua");

/// How many keys one call of [`Names::delete`] removes.
pub(crate) const DELETED_AT_ONCE: usize = 1_000;

/// The commands that give the server all scripts.
pub(crate) fn load() -> impl Iterator<Item = Cmd> {
    [&COMMIT, &REMOVE, &DELETE, &SCAN, &INSPECT]
        .into_iter()
        .map(|script| {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(script.text);
            load
        })
}

/// What a namespace is called in the server. All names share one hash tag, so that they are on one
/// node of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) index: String,
    pub(crate) values: String,
    pub(crate) channel: String,
}

impl Names {
    pub(crate) fn new(namespace: &str) -> Self {
        let name = |what| format!("{{{namespace}}}:{what}");
        Self {
            index: name("index"),
            values: name("values"),
            channel: name("changed"),
        }
    }

    /// Writes nothing, and fails if a commit could not.
    pub(crate) fn try_commit(&self) -> Cmd {
        self.writes(&REMOVE)
    }

    pub(crate) fn commit(&self, changes: &[Change]) -> Cmd {
        let puts = |change: &Change| change.after.is_some() && !change.is_check();
        let script = if changes.iter().any(puts) {
            &COMMIT
        } else {
            &REMOVE
        };
        let mut command = self.writes(script);
        for change in changes {
            let what = match (&change.before, &change.after) {
                (Expect::Any, Some(_)) => "*+",
                (Expect::Any, None) => "*-",
                (Expect::Absent, Some(_)) => "-+",
                (Expect::Absent, None) => "--",
                (Expect::Value(_), _) if change.is_check() => "==",
                (Expect::Value(_), Some(_)) => "=+",
                (Expect::Value(_), None) => "=-",
            };
            command.arg(what).arg(change.key.as_bytes());
            if let Expect::Value(value) = &change.before {
                command.arg(value.as_ref());
            }
            if let Some(value) = &change.after
                && !change.is_check()
            {
                command.arg(value.as_ref());
            }
        }
        command
    }

    /// Removes the first [`DELETED_AT_ONCE`] keys of a prefix.
    pub(crate) fn delete(&self, prefix: &Key) -> Cmd {
        let range = Scan::prefix(prefix.clone()).range(true);
        let mut command = self.writes(&DELETE);
        command
            .arg(lowest(&range.start))
            .arg(highest(&range.end))
            .arg(DELETED_AT_ONCE);
        command
    }

    pub(crate) fn get(&self, keys: &[Key]) -> Cmd {
        let mut command = cmd("HMGET");
        command.arg(&self.values);
        for key in keys {
            command.arg(key.as_bytes());
        }
        command
    }

    pub(crate) fn scan(&self, scan: &Scan) -> Cmd {
        // Beyond these nothing is cut, and Lua still counts exactly.
        const MOST: usize = 1 << 50;
        let range = scan.range(true);
        let (start, end) = (lowest(&range.start), highest(&range.end));
        let mut command = self.reads(&SCAN);
        match range.direction {
            Direction::Forward => command.arg("ZRANGEBYLEX").arg(start).arg(end),
            Direction::Reverse => command.arg("ZREVRANGEBYLEX").arg(end).arg(start),
        };
        command
            .arg(scan.limit.min(MOST))
            .arg(scan.byte_budget.min(MOST))
            .arg(usize::from(scan.keys_only));
        command
    }

    pub(crate) fn inspect(&self) -> Cmd {
        self.reads(&INSPECT)
    }

    fn reads(&self, script: &Lua) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&script.sha).arg(2);
        command.arg(&self.index).arg(&self.values);
        command
    }

    fn writes(&self, script: &Lua) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&script.sha).arg(3);
        command.arg(&self.index).arg(&self.values);
        command.arg(&self.channel);
        command
    }
}

/// The lower end of a range of keys, as ZRANGEBYLEX takes it. It compares as `memcmp`, a shorter
/// key before those it begins.
fn lowest(bound: &Bound<Key>) -> Vec<u8> {
    end(bound, b"-")
}

/// The upper end.
fn highest(bound: &Bound<Key>) -> Vec<u8> {
    end(bound, b"+")
}

fn end(bound: &Bound<Key>, unbounded: &[u8]) -> Vec<u8> {
    match bound {
        Bound::Included(key) => [b"[", key.as_bytes()].concat(),
        Bound::Excluded(key) => [b"(", key.as_bytes()].concat(),
        Bound::Unbounded => unbounded.to_vec(),
    }
}
