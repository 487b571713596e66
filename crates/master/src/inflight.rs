//! Requests that are being served, by their id: a repeated one that arrives while the first runs waits for the first one's outcome.
//!
//! Once the first has ended the state machine's own table answers. Work runs in a task of its own, so that a client that goes away, or
//! whose deadline passes, does not leave a store half changed. The table is bounded by the requests that are admitted.

use forebay_base::{ErrorKind, RequestId};
use forebay_proto::error::WireError;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

type Outcome = Result<Arc<dyn Any + Send + Sync>, WireError>;
type Running = Shared<BoxFuture<'static, Outcome>>;

/// The table.
#[derive(Clone, Default)]
pub(crate) struct InFlight {
    running: Arc<Mutex<HashMap<RequestId, Running>>>,
}

impl InFlight {
    /// Runs `work` for the request, or joins the run that is under way. A different kind of request under the same id is refused.
    pub(crate) async fn join<T, F>(&self, request: RequestId, work: F) -> Result<T, WireError>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, WireError>> + Send + 'static,
    {
        let outcome = self.enter(request, work).await?;
        outcome.downcast_ref::<T>().cloned().ok_or_else(|| {
            WireError::new(
                ErrorKind::InvalidArgument,
                format!(
                    "request {} of client {:x} was sent with another content before",
                    request.sequence, request.client.0
                ),
            )
        })
    }

    fn enter<T, F>(&self, request: RequestId, work: F) -> Running
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, WireError>> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(first) = running.get(&request) {
            return first.clone();
        }
        let table = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            let _leave = Leave { table, request };
            AssertUnwindSafe(work).catch_unwind().await
        });
        let future = async move {
            match task.await {
                Ok(Ok(outcome)) => outcome.map(|value| Arc::new(value) as Arc<dyn Any + Send + Sync>),
                Ok(Err(_)) | Err(_) => Err(WireError::new(
                    ErrorKind::Unavailable,
                    "the request was interrupted in the master; its outcome is not known",
                )),
            }
        };
        let future = future.boxed().shared();
        running.insert(request, future.clone());
        future
    }
}

struct Leave {
    table: Arc<Mutex<HashMap<RequestId, Running>>>,
    request: RequestId,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.table.lock().remove(&self.request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::ClientId;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    fn request(sequence: u64) -> RequestId {
        RequestId { client: ClientId(9), sequence }
    }

    #[tokio::test]
    async fn duplicates_join_and_the_table_empties() {
        let table = InFlight::default();
        let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let work = || {
            let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<u32, WireError>(runs.fetch_add(1, Ordering::SeqCst))
            }
        };
        let mut first = Box::pin(table.join(request(1), work()));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(table.join(request(1), work()));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        gate.add_permits(1);
        assert_eq!(second.await, Ok(0));
        assert!(table.running.lock().is_empty());
        gate.add_permits(1);
        assert_eq!(table.join(request(1), work()).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_request_alone() {
        let table = InFlight::default();
        let outcome: Result<u32, WireError> = table.join(request(1), async { panic!("planted by the test") }).await;
        assert_eq!(outcome.unwrap_err().kind, ErrorKind::Unavailable);
        assert!(table.running.lock().is_empty());
    }
}
