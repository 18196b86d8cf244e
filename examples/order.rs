//! An order and the mail about it, saved together or not at all: `cargo run --example order`.

use std::sync::Arc;

use kvjob::job::{KvStore, NewJob, Options, QueueStore as _};
use kvjob_redb::redb::TableDefinition;

const ORDERS: TableDefinition<u64, &str> = TableDefinition::new("orders");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(kvjob_redb::open(std::env::temp_dir().join("orders.redb"))?);
    let jobs = KvStore::open(store.clone(), Options::default()).await?;
    let mails = jobs.clone();
    let saved = store.with_transaction(move |transaction| {
        let orders = transaction.redb().open_table(ORDERS);
        let mut orders = orders.map_err(kvjob_redb::error)?;
        orders
            .insert(7, "a book on trees")
            .map_err(kvjob_redb::error)?;
        let mail = NewJob::new("mail", "Your order 7 is on its way")?;
        Ok(mails.enqueue_within(transaction, mail)?)
    });
    let (mail, receipt) = saved.await?;
    receipt.committed().await;
    println!("order 7 is saved, and with it the mail {}", mail.job.id);
    println!("{} waits", jobs.list(10, None).await?.items.len());
    Ok(())
}
