//! etcd: see the crate kvjob-etcd.

use kvjob::kv::Ownership;

use super::Backend;

pub(super) fn backend() -> Backend {
    Backend {
        name: "etcd",
        schemes: &["etcd", "etcds"],
        url: "etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]",
        options: &[
            "prefix=TEXT",
            "compact=5m",
            "ca=FILE",
            "certificate=FILE",
            "key=FILE",
        ],
        durability: "kill -9 and power loss, of a minority of its members also for good",
        atomic: true,
        watch: true,
        ownership: Ownership::Shared,
        #[cfg(feature = "etcd")]
        limits: Some(kvjob_etcd::LIMITS),
        #[cfg(feature = "etcd")]
        open: Some(|url| Box::pin(open(url))),
        #[cfg(not(feature = "etcd"))]
        limits: None,
        #[cfg(not(feature = "etcd"))]
        open: None,
    }
}

#[cfg(feature = "etcd")]
async fn open(url: crate::StoreUrl) -> kvjob::kv::Result<std::sync::Arc<dyn kvjob::kv::Store>> {
    let mut text = format!("{}:{}?", url.scheme, url.path);
    for (name, value) in &url.options {
        text += name;
        text += "=";
        text += value.as_deref().unwrap_or_default();
        text += "&";
    }
    Ok(std::sync::Arc::new(kvjob_etcd::open(&text).await?))
}
