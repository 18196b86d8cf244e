//! What is asked of the server besides objects: whether what stands under our keys is ours, and
//! what would surprise a user.

use std::collections::HashMap;

use kvjob::kv::{Error, ErrorKind, Health, Result};
use redis::{Value, cmd, from_redis_value};

use crate::client::{Client, Effect};
use crate::connection::text;
use crate::error;
use crate::info::Info;

/// Refuses to work on what is not ours, and where not every command is allowed.
pub(crate) async fn check(client: &Client) -> Result<()> {
    let asked = [client.names.inspect(), client.names.try_commit()];
    for (asked, answer) in client
        .run(&asked, Effect::Read)
        .await
        .into_iter()
        .enumerate()
    {
        let answer = answer?;
        if asked == 0 {
            Contents::read(answer)?.check(client)?;
        }
    }
    Ok(())
}

/// What would surprise a user.
pub(crate) async fn examine(client: &Client) -> Result<Health> {
    let mut config = cmd("CONFIG");
    config.arg("GET").arg("appendfsync");
    let mut cluster = cmd("CLUSTER");
    cluster.arg("INFO");
    let asked = [cmd("INFO"), client.names.inspect(), config, cluster];
    let mut answers = client.run(&asked, Effect::Read).await.into_iter();
    let mut next = || {
        answers
            .next()
            .unwrap_or_else(|| Err(error::strange("INFO")))
    };
    let info = Info::read(&text(next()?));
    let mut warnings = Vec::new();
    if let Err(error) = Contents::read(next()?)?.check(client) {
        warnings.push(error.to_string());
    }
    // Not everybody may ask for the configuration.
    let config: Option<HashMap<String, String>> =
        next().ok().and_then(|config| from_redis_value(config).ok());
    let appendfsync = config.and_then(|mut config| config.remove("appendfsync"));
    durability(&info, appendfsync.as_deref(), &mut warnings);
    memory(&info, &mut warnings);
    if info.is_cluster() {
        let cluster = Info::read(&text(next()?));
        if let Some(state) = cluster
            .field("cluster_state")
            .filter(|state| *state != "ok")
        {
            warnings.push(format!(
                "the cluster is in state {state}: some of its slots are served by no node"
            ));
        }
    }
    let mut health = Health::default();
    health.warnings = warnings;
    Ok(health)
}

fn durability(info: &Info, appendfsync: Option<&str>, warnings: &mut Vec<String>) {
    if info.field("aof_enabled") == Some("0") {
        warnings.push(
            "the server keeps no append-only file: a restart loses everything since its last \
             snapshot; set appendonly yes and appendfsync always"
                .to_owned(),
        );
        return;
    }
    match appendfsync {
        Some("always") => {}
        Some(often) => warnings.push(format!(
            "the server syncs its append-only file with appendfsync {often}: a crash of its \
             machine loses what was acknowledged last (with everysec about a second); set \
             appendfsync always"
        )),
        None => warnings.push(
            "the server does not tell how often it syncs its append-only file (CONFIG GET \
             appendfsync is refused): only with always is what was acknowledged safe from a crash \
             of its machine"
                .to_owned(),
        ),
    }
    if info.field("aof_last_write_status") == Some("err") {
        warnings.push(
            "the server could not write its append-only file the last time; look at its disk"
                .to_owned(),
        );
    }
}

fn memory(info: &Info, warnings: &mut Vec<String>) {
    let (used, most) = info.memory();
    let Some(most) = most else { return };
    if let Some(policy) = info.field("maxmemory_policy")
        && policy.starts_with("allkeys")
    {
        warnings.push(format!(
            "the server throws away any key when its memory is full (maxmemory-policy {policy}), \
             and so all jobs at once; set maxmemory-policy noeviction"
        ));
    }
    if used >= most / 10 * 9 {
        warnings.push(format!(
            "the server uses {used} of the {most} bytes of memory it may (maxmemory), and refuses \
             writes when they are used up"
        ));
    }
}

/// What stands under our keys.
struct Contents {
    index: String,
    values: String,
    keys: i64,
    objects: i64,
    others: i64,
}

impl Contents {
    fn read(answer: Value) -> Result<Self> {
        let read = from_redis_value(answer);
        let (index, values, keys, objects, others) =
            read.map_err(|source| error::strange("a look at the keys").with_source(source))?;
        Ok(Self {
            index,
            values,
            keys,
            objects,
            others,
        })
    }

    fn check(&self, client: &Client) -> Result<()> {
        let names = &client.names;
        let other = |name: &str, found: &str, kind: &str| {
            let message = format!(
                "the server has a {found} under the key {name}, where kvjob has a {kind}; it was \
                 left as it is: choose another namespace"
            );
            Err(Error::new(ErrorKind::Unsupported, message))
        };
        match (self.index.as_str(), self.values.as_str()) {
            ("none" | "zset", "none" | "hash") => {}
            ("none" | "zset", found) => return other(&names.values, found, "hash"),
            (found, _) => return other(&names.index, found, "zset with every score 0"),
        }
        if self.others > 0 {
            let found = "zset with other scores";
            return other(&names.index, found, "zset with every score 0");
        }
        if self.keys == self.objects {
            return Ok(());
        }
        let message = format!(
            "the server has {} keys in {} and {} values in {}: something else than kvjob wrote \
             there, or the server threw a key away when its memory was full (maxmemory-policy); \
             restore both from a copy, or choose another namespace",
            self.keys, names.index, self.objects, names.values
        );
        Err(Error::new(ErrorKind::Corrupt, message))
    }
}
