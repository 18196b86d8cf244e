//! Readers beside a writer, and beside each other: nobody waits for somebody else's work.

use std::sync::Arc;
use std::thread;

use kvjob::kv::{Embedded, Scan, Store, Transaction as _, Transactional};

use crate::faults::{has, pair};

/// For threads that are not the runtime's.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// A read does not wait for the transaction that is under way, and sees nothing of it.
pub async fn wait_for_no_write<E: Transactional>(store: Embedded<E>) {
    let store = Arc::new(store);
    store.atomic().unwrap().commit(pair(0)).await.unwrap();
    let reader = Arc::clone(&store);
    let written = store.with_transaction(move |transaction| {
        transaction.change(&pair(1))?;
        // On a thread of its own, while the transaction is under way.
        let read = thread::spawn(move || {
            block_on(async { [has(&reader, 0).await, has(&reader, 1).await] })
        });
        assert_eq!(read.join().unwrap(), [true, false]);
        Ok(())
    });
    written.await.unwrap();
    assert!(has(&store, 1).await);
}

/// So many readers at once all get their turn.
pub async fn all_get_their_turn(store: &dyn Store, readers: usize) {
    store.atomic().unwrap().commit(pair(0)).await.unwrap();
    let read = || {
        for _ in 0..20 {
            assert!(block_on(has(store, 0)));
            let page = block_on(store.scan(Scan::prefix("")));
            assert_eq!(page.unwrap().objects.len(), 2);
        }
    };
    thread::scope(|threads| {
        for _ in 0..readers {
            threads.spawn(read);
        }
    });
}
