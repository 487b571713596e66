//! The way between members of one process: messages are handed over in memory.

use bytes::Bytes;
use forebay_consensus::{Consensus, Member, Transport, TransportError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages of a stream that wait on their way; more wait where they come from.
const ON_THE_WAY: usize = 16;

/// Members by address. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<HashMap<String, Weak<Consensus>>>>);

impl Wire {
    /// From now on the member can be reached.
    pub(super) fn attach(&self, member: &Arc<Consensus>) {
        self.0.lock().insert(member.status().member.address, Arc::downgrade(member));
    }

    fn member(&self, to: &Member) -> Result<Arc<Consensus>, TransportError> {
        let member = self.0.lock().get(&to.address).and_then(Weak::upgrade);
        member.ok_or_else(|| TransportError::Unreachable(format!("{} does not run", to.address)))
    }
}

type Replies = BoxStream<'static, Result<Bytes, TransportError>>;

impl Transport for Wire {
    fn call(&self, to: &Member, request: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let member = self.member(to);
        async move { Ok(member?.handle(request).await) }.boxed()
    }

    fn stream(
        &self,
        to: &Member,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Replies, TransportError>> {
        let member = self.member(to);
        async move {
            let (ask, asked) = mpsc::channel(ON_THE_WAY);
            let (answer, answered) = mpsc::channel(ON_THE_WAY);
            tokio::spawn(carry(requests, ask));
            // A task of the receiving member's own, as the server's is.
            tokio::spawn(carry(member?.handle_stream(arriving(asked)).map(Ok).boxed(), answer));
            Ok(arriving(answered))
        }
        .boxed()
    }
}

/// Ends when either side does.
async fn carry<T>(mut from: BoxStream<'static, T>, to: mpsc::Sender<T>) {
    loop {
        let next = tokio::select! {
            next = from.next() => next,
            () = to.closed() => None,
        };
        let Some(next) = next else { return };
        if to.send(next).await.is_err() {
            return;
        }
    }
}

fn arriving<T: Send + 'static>(from: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    futures::stream::unfold(from, |mut from| async { Some((from.recv().await?, from)) }).boxed()
}
