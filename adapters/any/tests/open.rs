//! What a URL opens, and what is said of one that opens nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use kvjob::kv::{ErrorKind, Object, Ownership};

async fn refused(url: &str) -> String {
    let error = kvjob_any::open(url).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    error.to_string()
}

#[tokio::test]
async fn memory_opens_a_store_of_its_own_each_time() {
    let one = kvjob_any::open("memory:?namespace=shop").await.unwrap();
    let other = kvjob_any::open("memory:").await.unwrap();
    one.set(Object::new("a", "1")).await.unwrap();
    assert!(other.get(&"a".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn memory_does_not_pretend_to_be_durable() {
    assert!(
        refused("memory:?durability=immediate")
            .await
            .contains("takes no option \"durability\"")
    );
    assert!(refused("memory:jobs").await.contains("takes no path"));
}

#[tokio::test]
async fn an_unknown_scheme_lists_the_known_ones() {
    let text = refused("filofax:jobs").await;
    assert!(text.contains("no backend \"filofax\""), "{text}");
    assert!(text.contains("memory:"), "{text}");
}

#[tokio::test]
async fn the_list_of_backends_tells_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    // A server is not there for the asking: kvjob-tests has the same for those.
    for backend in kvjob_any::backends()
        .into_iter()
        .filter(kvjob_any::Backend::is_enabled)
        .filter(|it| it.ownership == Ownership::Exclusive)
    {
        let path = match backend.name {
            "memory" => String::new(),
            name => directory.path().join(name).display().to_string(),
        };
        let store = kvjob_any::open(&format!("{}:{path}", backend.name))
            .await
            .unwrap();
        assert_eq!(store.name(), backend.name);
        assert_eq!(store.atomic().is_some(), backend.atomic);
        assert_eq!(store.watch().is_some(), backend.watch);
        assert_eq!(Some(store.limits()), backend.limits);
        assert_eq!(store.ownership(), backend.ownership);
        store.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_has_a_path_is_there_the_next_time() {
    let directory = tempfile::tempdir().unwrap();
    let enabled = kvjob_any::backends()
        .into_iter()
        .filter(kvjob_any::Backend::is_enabled);
    for backend in enabled.filter(kvjob_any::Backend::is_on_disk) {
        let name = backend.name;
        let path = directory.path().join(name);
        let url = format!(
            "{name}:{}?namespace=shop&durability=interval:100ms",
            path.display()
        );
        let store = kvjob_any::open(&url).await.unwrap();
        store.set(Object::new("a", "1")).await.unwrap();
        let error = kvjob_any::open(&url).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InUse);
        drop(store);
        let store = kvjob_any::open(&url).await.unwrap();
        assert!(store.get(&"a".into()).await.unwrap().is_some());
        let text = refused(&format!("{name}:")).await;
        assert!(text.contains("needs the path"), "{text}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_server_says_what_is_wrong_with_its_options() {
    for (url, why) in [
        ("redis://h?durability=memory", "takes no option"),
        ("redis://h?ca", "needs the path"),
        ("rediss://h?certificate=a.pem", "need each other"),
        (
            "rediss://ada:secret@h?ca=/nowhere/ca.pem",
            "/nowhere/ca.pem",
        ),
        ("redis:jobs", "redis://"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(why) && !text.contains("secret"), "{text}");
    }
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn an_etcd_says_what_is_wrong_with_its_options() {
    for (url, why) in [
        ("etcd://h?durability=memory", "takes no option"),
        ("etcd://h?prefix", "needs a value"),
        ("etcds://h?certificate=a.pem", "need each other"),
        ("etcds://ada:secret@h?ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("etcd:jobs", "etcd://"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(why) && !text.contains("secret"), "{text}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_postgres_says_what_is_wrong_with_its_options() {
    for (url, why) in [
        ("postgres://h?prefix=jobs", "takes no option"),
        ("postgres://ada:secret@h?table=a.b.c", "SCHEMA.TABLE"),
        ("postgres://ada:secret@h?sslmode=often", "sslmode"),
        ("postgresql://ada:secret@h?sslcert=a.pem", "sslkey"),
        (
            "postgres://ada:secret@h?sslrootcert=/nowhere/ca.pem",
            "/nowhere/ca.pem",
        ),
        ("postgres:jobs", "postgres://"),
    ] {
        let text = refused(url).await;
        assert!(text.contains(why) && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_backend_that_is_not_compiled_in_says_which_feature_it_needs() {
    for backend in kvjob_any::backends().iter().filter(|it| !it.is_enabled()) {
        let text = refused(&format!("{}:jobs", backend.name)).await;
        let feature = format!("build kvjob-any with the feature {}", backend.name);
        assert!(text.contains(&feature), "{text}");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_is_shared_can_be_opened_again() {
    use kvjob::kv::Ownership;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared");
    let alone = format!("sqlite:{}", path.display());
    let shared = format!("{alone}?shared");
    let one = kvjob_any::open(&shared).await.unwrap();
    let other = kvjob_any::open(&shared).await.unwrap();
    assert_eq!(one.ownership(), Ownership::Shared);
    one.set(Object::new("a", "1")).await.unwrap();
    assert!(other.get(&"a".into()).await.unwrap().is_some());
    let error = kvjob_any::open(&alone).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InUse);
}

#[cfg(feature = "lmdb")]
#[tokio::test]
async fn lmdb_is_shared_where_the_url_says_so() {
    use kvjob::kv::Ownership;

    let directory = tempfile::tempdir().unwrap();
    let url = format!("lmdb:{}?shared", directory.path().join("shared").display());
    let store = kvjob_any::open(&url).await.unwrap();
    assert_eq!(store.ownership(), Ownership::Shared);
}
