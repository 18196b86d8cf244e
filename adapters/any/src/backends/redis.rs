//! Redis and Valkey: see the crate kvjob-redis.

use kvjob::kv::Ownership;

use super::Backend;

pub(super) fn backend() -> Backend {
    Backend {
        name: "redis",
        schemes: &[
            "redis",
            "rediss",
            "redis+unix",
            "valkey",
            "valkeys",
            "valkey+unix",
        ],
        url: "redis://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DATABASE]",
        options: &["ca=FILE", "certificate=FILE", "key=FILE"],
        durability: "as the server is set: kill -9 and power loss (appendfsync always); the same, but a power loss may take the last two seconds (everysec); a failover to a replica may take the last changes",
        atomic: true,
        watch: true,
        ownership: Ownership::Shared,
        #[cfg(feature = "redis")]
        limits: Some(kvjob_redis::LIMITS),
        #[cfg(feature = "redis")]
        open: Some(|url| Box::pin(open(url))),
        #[cfg(not(feature = "redis"))]
        limits: None,
        #[cfg(not(feature = "redis"))]
        open: None,
    }
}

#[cfg(feature = "redis")]
async fn open(url: crate::StoreUrl) -> kvjob::kv::Result<std::sync::Arc<dyn kvjob::kv::Store>> {
    let mut options = kvjob_redis::Options::new();
    if let Some(namespace) = &url.namespace {
        options = options.namespace(namespace);
    }
    let (mut certificate, mut key) = (None, None);
    for (name, value) in &url.options {
        let Some(file) = value.as_deref().filter(|file| !file.is_empty()) else {
            return Err(url.refused(format_args!("{name}= needs the path of a file")));
        };
        match name.as_str() {
            "ca" => options = options.ca_file(file),
            "certificate" => certificate = Some(file),
            _ => key = Some(file),
        }
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => options = options.client_certificate(certificate, key),
        (None, None) => {}
        _ => return Err(url.refused("certificate= and key= need each other")),
    }
    let store = options
        .open(&format!("{}:{}", url.scheme, url.path))
        .await?;
    Ok(std::sync::Arc::new(store))
}
