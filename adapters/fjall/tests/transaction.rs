//! A transaction shared with the user: both sides' data is saved together, or neither is.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use kvjob::kv::{Durability, ErrorKind, Result};
use kvjob_fjall::fjall::{Readable as _, SingleWriterTxDatabase};
use kvjob_fjall::{Engine, Fjall, Options, Transaction};
use kvjob_trials::transaction::{self, Shop};

#[derive(Clone)]
struct Bookshop {
    path: PathBuf,
    options: Options,
}

impl Shop for Bookshop {
    type Engine = Engine;

    fn open(directory: &Path, durability: Durability) -> Self {
        Self {
            path: directory.join("jobs.fjall"),
            options: Options::new().durability(durability),
        }
    }

    fn store(&self) -> Fjall {
        self.options.open(&self.path).unwrap()
    }

    fn order(&self, transaction: &mut Transaction<'_>, id: u8) -> Result<()> {
        let orders = transaction.keyspace("orders")?;
        let fjall = transaction.fjall();
        fjall.insert(&orders, [id], "a book");
        let written = fjall.contains_key(&orders, [id]);
        assert!(written.map_err(kvjob_fjall::error)?);
        Ok(())
    }

    fn orders(&self) -> u64 {
        let database = SingleWriterTxDatabase::builder(&self.path).open().unwrap();
        let orders = database.keyspace("orders", Default::default).unwrap();
        database.read_tx().len(&orders).unwrap() as u64
    }
}

#[tokio::test]
async fn both_sides_are_saved_together_and_watchers_are_told() {
    transaction::both_sides::<Bookshop>().await;
}

#[tokio::test]
async fn an_error_saves_neither_side() {
    transaction::an_error::<Bookshop>().await;
}

#[tokio::test]
async fn a_panic_saves_neither_side_and_the_store_goes_on() {
    transaction::a_panic::<Bookshop>().await;
}

#[tokio::test]
async fn it_reads_what_it_wrote_in_both_directions() {
    transaction::reads::<Bookshop>().await;
}

#[tokio::test]
async fn an_order_and_its_mail_are_saved_together_or_neither() {
    transaction::order_and_mail::<Bookshop>().await;
}

#[tokio::test]
async fn the_stores_own_keyspace_is_not_handed_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = kvjob_fjall::open(directory.path().join("jobs.fjall")).unwrap();
    let outcome = store.with_transaction(|transaction| {
        for name in ["kvjob", "", &"x".repeat(256)] {
            let error = transaction.keyspace(name).err().unwrap();
            assert_eq!(error.kind(), &ErrorKind::Unsupported);
        }
        Ok(())
    });
    outcome.await.unwrap();
}
