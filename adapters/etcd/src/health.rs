//! What would surprise the user of an etcd: members that are away, alarms, a database that fills
//! up or keeps everything that ever was.

use kvjob::kv::{Error, Health, Result};

use crate::members::Members;
use crate::proto::{RangeRequest, StatusRequest};
use crate::txn::KeySpace;

/// The quota of a database where nobody says otherwise. etcd tells its own from 3.6 on.
const QUOTA: i64 = 2 << 30;
/// How full it may be, in percent.
const FULL: i64 = 80;
/// Old revisions that may be kept. At a few hundred bytes each they are a good part of the quota,
/// and etcd walks past all that were removed when it looks for the first that was not.
const REVISIONS: i64 = 1_000_000;

pub(crate) async fn health(members: &Members, space: &KeySpace) -> Result<Health> {
    let mut health = Health::default();
    let mut revision = None;
    let mut away = None;
    for (address, status) in members.each(&StatusRequest {}).await {
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                health.warnings.push(format!("a member is away: {error}"));
                away = Some(error);
                continue;
            }
        };
        let seen = status.header.map_or(0, |header| header.revision);
        revision = revision.max(Some(seen));
        for alarm in &status.errors {
            health.warnings.push(format!(
                "etcd at {address} reports {:?}: see `etcdctl endpoint status` and `etcdctl alarm \
                 list`",
                alarm.trim()
            ));
        }
        health
            .warnings
            .extend(fullness(address, status.db_size, status.db_size_quota));
    }
    match (revision, away) {
        (None, Some(error)) => return Err(error),
        (revision, _) => {
            let old = revision.unwrap_or(0) - REVISIONS;
            if keeps(members, space, old).await? {
                health.warnings.push(format!(
                    "etcd still keeps the last {REVISIONS} revisions of its keys, and its database \
                     will fill up: let it compact, such as by --auto-compaction-mode=periodic \
                     --auto-compaction-retention=5m"
                ));
            }
        }
    }
    Ok(health)
}

fn fullness(address: &str, size: i64, quota: i64) -> Option<String> {
    let (quota, whose) = if quota > 0 {
        (quota, "its quota")
    } else {
        (
            QUOTA,
            "the default quota, which counts unless --quota-backend-bytes says otherwise",
        )
    };
    let percent = size.saturating_mul(100) / quota;
    (percent >= FULL).then(|| {
        format!(
            "the database of etcd at {address} has {size} bytes, {percent}% of {whose}: compact \
             its history and defragment it, or raise the quota; when it is full, nothing can be \
             written"
        )
    })
}

/// Whether an old revision can still be read, and so everything since.
async fn keeps(members: &Members, space: &KeySpace, revision: i64) -> Result<bool> {
    if revision <= 0 {
        return Ok(false);
    }
    let old = RangeRequest {
        key: space.prefix(),
        revision,
        count_only: true,
        ..RangeRequest::default()
    };
    match members.read(&old).await {
        Ok(_) => Ok(true),
        Err(error) if is_compacted(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_compacted(error: &Error) -> bool {
    error.to_string().contains("has been compacted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_near_its_quota_is_told_before_it_is_full() {
        assert_eq!(fullness("a", 1 << 30, 0), None);
        assert_eq!(fullness("a", 3 << 30, 8 << 30), None);
        let default = fullness("a", 1_800 << 20, 0).unwrap();
        assert!(
            default.contains("87%") && default.contains("--quota"),
            "{default}"
        );
        let own = fullness("a", 7 << 30, 8 << 30).unwrap();
        assert!(own.contains("87% of its quota"), "{own}");
    }
}
