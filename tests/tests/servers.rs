//! Servers by their URLs.

#![cfg(feature = "servers")]
#![allow(clippy::unwrap_used, reason = "tests")]

use kvjob::kv::{Object, Store as _};
use kvjob_servers::{etcd, redis};

#[tokio::test]
async fn a_server_is_what_the_list_of_backends_says() {
    let servers = [redis::redis(), redis::valkey()];
    let etcd = etcd::etcd();
    for (name, url, elsewhere) in [
        ("redis", redis::url(&servers[0]), "namespace=other"),
        (
            "redis",
            redis::url(&servers[1]).replace("redis", "valkey"),
            "namespace=other",
        ),
        ("etcd", etcd::url(&etcd), "prefix=other/"),
    ] {
        let backends = kvjob_any::backends();
        let backend = backends.iter().find(|it| it.name == name).unwrap();
        let store = kvjob_any::open(&url).await.unwrap();
        assert_eq!(store.name(), backend.name);
        assert_eq!(store.atomic().is_some(), backend.atomic);
        assert_eq!(store.watch().is_some(), backend.watch);
        assert_eq!(Some(store.limits()), backend.limits);
        assert_eq!(store.ownership(), backend.ownership);
        // Another process sees it, and who looks elsewhere does not.
        store.set(Object::new("a", "1")).await.unwrap();
        let other = kvjob_any::open(&url).await.unwrap();
        assert!(other.get(&"a".into()).await.unwrap().is_some());
        let other = format!("{url}?{elsewhere}");
        let other = kvjob_any::open(&other).await.unwrap();
        assert!(other.get(&"a".into()).await.unwrap().is_none());
        store.stop().await.unwrap();
    }
}
