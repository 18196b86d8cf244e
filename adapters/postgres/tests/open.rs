//! Opening: what a user reads when it cannot be, who may, and what is ours in a database.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::time::Duration;

use futures::future::join_all;
use kvjob::kv::{
    Atomic as _, Change, Durability, Error, ErrorKind, Key, Object, Ownership, Scan, Store as _,
};
use kvjob_postgres::tokio_postgres::{self, Client, NoTls};
use kvjob_postgres::{LIMITS, Options};
use kvjob_servers::tls::Certificates;
use kvjob_servers::{Server, free_port, postgres};
use tokio::net::TcpListener;

fn server() -> Server {
    postgres::with(&["fsync=off"])
}

async fn refused(url: &str) -> Error {
    refused_with(&Options::new(), url).await
}

async fn refused_with(options: &Options, url: &str) -> Error {
    let opened = tokio::time::timeout(Duration::from_secs(30), options.open(url)).await;
    let error = opened.unwrap().unwrap_err();
    let text = format!("{error} {error:?} {options:?}");
    assert!(!text.contains("secret"), "a password is told: {text}");
    error
}

/// A connection of the superuser's.
async fn connect(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres::url(server), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// The URL for another user.
fn login(server: &Server, who: &str) -> String {
    postgres::url(server).replace("kvjob@", &format!("{who}@"))
}

#[tokio::test]
async fn what_is_no_url_and_no_table_is_refused_with_what_is() {
    for url in [
        "localhost",
        "mysql://ada:secret@db",
        "postgres://ada:secret@db?x=1",
    ] {
        let error = refused(url).await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().contains("postgres://USER"), "{error}");
    }
    let options = Options::new().table("no table");
    let error = refused_with(&options, "postgres://ada:secret@db").await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_at_once_with_its_address() {
    let port = free_port();
    let error = refused(&format!("postgres://ada:secret@127.0.0.1:{port}/shop")).await;
    assert_eq!(error.kind(), &ErrorKind::Transient);
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{port}/shop (as ada)")),
        "{text}"
    );
    assert!(text.contains("is the server running"), "{text}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = Options::new()
        .timeout(Duration::from_millis(90))
        .password("secret");
    let error = refused_with(&options, &format!("postgres://ada@127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), &ErrorKind::Transient);
    assert!(
        error.to_string().contains("no answer within 90ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_and_none_and_no_database_are_told() {
    let mut server = server();
    let admin = connect(&server).await;
    let make = "CREATE ROLE ada LOGIN PASSWORD 'secret'; GRANT ALL ON SCHEMA public TO ada";
    admin.batch_execute(make).await.unwrap();

    server.kill();
    let rules = "host all kvjob 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(server.directory().join("data/pg_hba.conf"), rules).unwrap();
    server.start();

    for who in ["ada:wrong_secret", "ada", "eve:secret"] {
        let error = refused(&login(&server, who)).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
    let error = refused(&(postgres::url(&server) + "_elsewhere")).await;
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().contains("create the database"), "{error}");

    let in_url = kvjob_postgres::open(&login(&server, "ada:secret")).await;
    let store = in_url.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(!format!("{store:?}").contains("secret"));
    let options = Options::new().password("secret");
    let store = options.open(&login(&server, "ada")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_user_needs_what_is_documented_and_no_more() {
    let server = server();
    let admin = connect(&server).await;
    admin.batch_execute("CREATE ROLE ada LOGIN").await.unwrap();
    let error = refused(&login(&server, "ada")).await;
    assert_eq!(error.kind(), &ErrorKind::Backend);
    assert!(error.to_string().contains("GRANT"), "{error}");

    let owner = kvjob_postgres::open(&postgres::url(&server)).await.unwrap();
    let grant = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON kvjob TO ada; \
                 GRANT EXECUTE ON FUNCTION kvjob_commit_1 TO ada";
    admin.batch_execute(grant).await.unwrap();
    let store = kvjob_postgres::open(&login(&server, "ada")).await.unwrap();
    store.commit(vec![Change::create("a", "1")]).await.unwrap();
    assert!(owner.get(&"a".into()).await.unwrap().is_some());
    store.delete(&Key::EMPTY).await.unwrap();
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings[0].contains("fsync is off"), "{warnings:?}");
}

#[tokio::test]
async fn what_another_program_has_under_the_name_is_left_as_it_is() {
    let server = server();
    let admin = connect(&server).await;
    for (make, why) in [
        ("CREATE TABLE kvjob (id int PRIMARY KEY)", "another program"),
        (
            "CREATE TABLE kvjob (key bytea PRIMARY KEY, value text NOT NULL)",
            "another program",
        ),
        (
            "CREATE TABLE kvjob (key bytea, value bytea NOT NULL)",
            "another program",
        ),
        (
            "CREATE VIEW kvjob AS SELECT ''::bytea AS key, ''::bytea AS value",
            "another program",
        ),
        (
            "CREATE UNLOGGED TABLE kvjob (key bytea PRIMARY KEY, value bytea NOT NULL)",
            "unlogged",
        ),
    ] {
        admin.batch_execute(make).await.unwrap();
        let error = refused(&postgres::url(&server)).await;
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{make}");
        assert!(error.to_string().contains(why), "{make}: {error}");
        let kind = if make.contains("VIEW") {
            "VIEW"
        } else {
            "TABLE"
        };
        admin
            .batch_execute(&format!("DROP {kind} kvjob"))
            .await
            .unwrap();
    }
    let functions = admin.query("SELECT FROM pg_proc WHERE proname LIKE 'kvjob%'", &[]);
    assert!(functions.await.unwrap().is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_function_that_somebody_changed_is_not_trusted() {
    let server = server();
    let admin = connect(&server).await;
    let store = kvjob_postgres::open(&postgres::url(&server)).await.unwrap();
    store.stop().await.unwrap();
    let find = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'kvjob_commit_1'";
    let definition: String = admin.query_one(find, &[]).await.unwrap().get(0);
    let changed = definition.replace("taken > 0", "taken > 1");
    assert_ne!(definition, changed);
    admin.batch_execute(&changed).await.unwrap();
    let error = refused(&postgres::url(&server)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("drop it"), "{error}");
    let drop = "DROP FUNCTION kvjob_commit_1";
    admin.batch_execute(drop).await.unwrap();
    kvjob_postgres::open(&postgres::url(&server)).await.unwrap();
}

#[tokio::test]
async fn a_table_that_was_removed_is_told() {
    let server = server();
    let store = kvjob_postgres::open(&postgres::url(&server)).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let admin = connect(&server).await;
    admin.batch_execute("DROP TABLE kvjob").await.unwrap();
    let read = store.get(&"a".into()).await.unwrap_err();
    let written = store.set(Object::new("a", "1")).await.unwrap_err();
    for error in [read, written] {
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error:?}");
        assert!(error.to_string().contains("was removed"), "{error}");
    }
}

#[tokio::test]
async fn stores_of_several_tables_do_not_see_each_other_and_those_of_one_do() {
    let server = server();
    let admin = connect(&server).await;
    admin.batch_execute("CREATE SCHEMA jobs").await.unwrap();
    let url = postgres::url(&server);
    let open = async |table: &str| Options::new().table(table).open(&url).await.unwrap();
    let one = open("kvjob").await;
    let other = open("jobs.kvjob").await;
    one.set(Object::new("a", "one")).await.unwrap();
    other.set(Object::new("a", "other")).await.unwrap();
    other.delete(&Key::EMPTY).await.unwrap();
    let again = open("public.kvjob").await;
    assert_eq!(again.get(&"a".into()).await.unwrap().unwrap().value, "one");
    assert_eq!(again.ownership(), Ownership::Shared);
}

#[tokio::test]
async fn many_who_open_an_empty_database_at_once_make_one_table() {
    let server = postgres::with(&["fsync=off", "max_connections=200"]);
    let url = postgres::url(&server);
    let stores = join_all((0..8).map(|_| kvjob_postgres::open(&url))).await;
    for (n, store) in stores.iter().enumerate() {
        let key = format!("{n}").into_bytes();
        store
            .as_ref()
            .unwrap()
            .set(Object::new(key, "1"))
            .await
            .unwrap();
    }
    let first = stores[0].as_ref().unwrap();
    let page = first.scan(Scan::prefix("")).await.unwrap();
    assert_eq!(page.objects.len(), stores.len());
}

#[tokio::test]
async fn a_server_without_a_connection_left_is_told() {
    let server = postgres::with(&["max_connections=4", "superuser_reserved_connections=0"]);
    let error = refused(&postgres::url(&server)).await;
    assert_eq!(error.kind(), &ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn a_server_that_only_reads_is_told() {
    let server = server();
    let admin = connect(&server).await;
    let restrict = "ALTER ROLE kvjob SET default_transaction_read_only = on";
    admin.batch_execute(restrict).await.unwrap();
    let error = refused(&postgres::url(&server)).await;
    assert!(error.to_string().contains("only reads"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_told_and_left_as_it_is() {
    let server = server();
    let admin = connect(&server).await;
    // For this role it is of another version.
    let older = "CREATE FUNCTION public.current_setting(name text) RETURNS text LANGUAGE sql AS \
                 $$SELECT CASE name WHEN 'server_version_num' THEN '120022' \
                   ELSE pg_catalog.current_setting(name) END$$; \
                 ALTER ROLE kvjob SET search_path = public, pg_catalog";
    admin.batch_execute(older).await.unwrap();
    let error = refused(&postgres::url(&server)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    let text = error.to_string();
    assert!(text.contains("PostgreSQL 12, and kvjob needs 13"), "{text}");
    assert!(
        text.contains(&format!("127.0.0.1:{}", server.port())),
        "{text}"
    );
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(
        admin.query_one(tables, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn a_standby_is_refused_and_its_primary_found() {
    let mut standby = server();
    postgres::become_standby(&mut standby);
    let error = refused(&postgres::url(&standby)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("is a standby"), "{error}");
    // As the message says.
    let primary = server();
    let (first, second) = (standby.port(), primary.port());
    let url = format!(
        "postgres://kvjob@127.0.0.1:{first},127.0.0.1:{second}/kvjob?target_session_attrs=read-write"
    );
    let store = kvjob_postgres::open(&url).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn tls_is_used_and_checks_who_the_server_is() {
    let certificates = Certificates::new();
    let server = postgres::with_tls(&certificates);
    let url = postgres::url(&server);
    let require = |mode: &str| format!("{url}?sslmode={mode}");
    for mode in ["prefer", "require"] {
        let error = refused(&require(mode)).await;
        assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
    let trusting = Options::new().ca_file(&certificates.ca);
    let store = trusting.open(&require("require")).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let admin = connect(&server).await;
    let count = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE ssl AND application_name = 'kvjob'";
    let secure: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
    assert!(secure > 1, "{secure} connections with TLS");

    let in_url = format!(
        "{}&sslrootcert={}",
        require("verify-full"),
        certificates.ca.display()
    );
    let store = kvjob_postgres::open(&in_url).await.unwrap();
    assert!(store.get(&"a".into()).await.unwrap().is_some());
    kvjob_postgres::open(&require("disable")).await.unwrap();
    let missing = Options::new().ca_file("/no/such.pem");
    let error = refused_with(&missing, &url).await;
    assert!(error.to_string().contains("/no/such.pem"), "{error}");
}

#[tokio::test]
async fn tls_that_a_server_does_not_have_is_told() {
    let server = server();
    let error = refused(&format!("{}?sslmode=require", postgres::url(&server))).await;
    assert_eq!(error.kind(), &ErrorKind::Backend, "{error}");
    assert!(error.to_string().contains("sslmode=disable"), "{error}");
}

/// Bytes that cannot be compressed, which PostgreSQL would do to make a key fit.
fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn the_longest_key_fits_into_the_index_and_hardly_a_longer_one() {
    let server = server();
    let store = kvjob_postgres::open(&postgres::url(&server)).await.unwrap();
    let key = incompressible(LIMITS.key_bytes);
    let changes = vec![Change::create(key.clone(), "1"), Change::put("a", "1")];
    store.commit(changes).await.unwrap();
    let objects = store.scan(Scan::prefix(key)).await.unwrap().objects;
    assert_eq!(objects.len(), 1);

    let admin = connect(&server).await;
    let insert = "INSERT INTO kvjob VALUES ($1, '')";
    let longer = incompressible(LIMITS.key_bytes + 8);
    let refused = admin.execute(insert, &[&longer]).await.unwrap_err();
    assert!(
        refused
            .as_db_error()
            .unwrap()
            .message()
            .contains("index row")
    );
    let error = store.set(Object::new(longer, "1")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }));
}

#[tokio::test]
async fn what_does_not_wait_for_the_disk_is_said_and_the_rest_is_not_weakened() {
    let server = postgres::postgres();
    let admin = connect(&server).await;
    let weaken = "ALTER ROLE kvjob SET synchronous_commit = off; \
                  ALTER ROLE kvjob SET default_transaction_isolation = 'serializable'";
    admin.batch_execute(weaken).await.unwrap();
    let url = postgres::url(&server);
    let store = kvjob_postgres::open(&url).await.unwrap();
    store.set(Object::new("a", "1")).await.unwrap();
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings.is_empty(), "{warnings:?}");

    let interval = Durability::Interval(Duration::from_millis(50));
    for durability in [Durability::Memory, interval] {
        let options = Options::new().durability(durability);
        let store = options.open(&url).await.unwrap();
        store.set(Object::new("a", "1")).await.unwrap();
        let warnings = store.health().await.unwrap().warnings;
        assert!(warnings[0].contains("synchronous_commit"), "{warnings:?}");
        store.stop().await.unwrap();
    }
    let unvacuumed = "ALTER TABLE kvjob SET (autovacuum_enabled = false)";
    admin.batch_execute(unvacuumed).await.unwrap();
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings[0].contains("autovacuum"), "{warnings:?}");
}
