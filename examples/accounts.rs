//! A serial queue for each account: however many workers there are, the payments of one account are
//! made one at a time and in their order, beside those of others: `cargo run --example accounts`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kvjob::job::{self, Jobs, KvStore, Options, Task};
use kvjob::kv::Memory;
use kvjob::worker::{Data, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;

const ACCOUNTS: [&str; 3] = ["ada", "grace", "edsger"];
const PAYMENTS: u32 = 5;

#[derive(Serialize, Deserialize)]
struct Pay {
    account: String,
    number: u32,
}

impl Task for Pay {
    const NAME: &'static str = "pay";
}

#[derive(Clone)]
struct Bank {
    accounts: Arc<Mutex<BTreeMap<String, Account>>>,
    /// Where the first payments of all accounts meet.
    meeting: Arc<Barrier>,
}

#[derive(Default)]
struct Account {
    /// How many of its payments are being made.
    under_way: usize,
    most_at_once: usize,
    made: Vec<u32>,
}

impl Bank {
    fn accounts(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pay(Pay { account, number }: Pay, bank: Data<Bank>) {
    {
        let mut accounts = bank.accounts();
        let account = accounts.entry(account.clone()).or_default();
        account.under_way += 1;
        account.most_at_once = account.most_at_once.max(account.under_way);
    }
    if number == 1 {
        // It would wait for ever if the accounts were not served beside each other.
        bank.meeting.wait().await;
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    let mut accounts = bank.accounts();
    let account = accounts.entry(account).or_default();
    account.under_way -= 1;
    account.made.push(number);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(KvStore::open(Arc::new(Memory::new()), Options::default()).await?);
    let jobs = Jobs::new(store.clone());
    for number in 1..=PAYMENTS {
        for account in ACCOUNTS.map(str::to_owned) {
            let queue = format!("account/{account}");
            jobs.add(Pay { account, number }).queue(queue).await?;
        }
    }

    let bank = Bank {
        accounts: Arc::default(),
        meeting: Arc::new(Barrier::new(ACCOUNTS.len())),
    };
    // Each of them has room for all payments at once.
    let worker = || -> job::Result<Worker> {
        let builder = Worker::builder(store.clone()).concurrency(16);
        builder.data(bank.clone()).register(pay).build()
    };
    tokio::try_join!(worker()?.run_once(), worker()?.run_once())?;

    for (name, account) in &*bank.accounts() {
        let (made, most) = (&account.made, account.most_at_once);
        println!("{name}: payments {made:?}, at most {most} at a time");
        assert!(made.iter().copied().eq(1..=PAYMENTS) && most == 1);
    }
    assert_eq!(bank.accounts().len(), ACCOUNTS.len());
    Ok(())
}
