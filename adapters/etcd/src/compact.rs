//! Having etcd forget what its keys were, where it is asked to be done by us.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::members::Members;
use crate::proto::{CompactionRequest, StatusRequest};

/// Compacts so often to where etcd was so long ago, until the handle is dropped. What fails, also
/// because another process was first, is done the next time; where it fails always, health tells
/// what becomes of it.
pub(crate) fn start(members: Arc<Members>, every: Duration) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut old = None;
        loop {
            sleep(every).await;
            if let Some(revision) = old {
                let _ = members.write(&CompactionRequest { revision }).await;
            }
            let status = members.read(&StatusRequest {}).await;
            old = status.ok().and_then(|status| Some(status.header?.revision));
        }
    }))
}
