//! The bytes of a range from the best source there is: another worker that should have them cached, else the store.
//! Where a worker fails, the next source goes on from the byte reached.

use crate::error::RequestError;
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::Node;
use crate::peer::{PeerBody, PeerError};
use bytes::Bytes;
use forebay_base::WorkerId;
use forebay_proto::frame::ReadHead;
use forebay_ufs::ByteStream;
use futures::StreamExt;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Who wants the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client: other workers may be asked.
    Client,
    /// A worker on behalf of its client: only those may be asked that ask nobody in turn.
    Worker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The owner of the block: it fetches what it does not have.
    Owner(WorkerId),
    /// The owner, after it has sent damaged bytes: it checks its pages first.
    OwnerChecking(WorkerId),
    /// Who had the block before: gives what it has cached.
    PreviousOwner(WorkerId),
    Store,
}

enum Body {
    Peer(WorkerId, Box<PeerBody>),
    Store(ByteStream),
}

/// A range on its way to us. Lies within one block.
pub(crate) struct Feed {
    node: Arc<Node>,
    file: Arc<TicketFile>,
    range: Range<u64>,
    /// Not tried yet.
    sources: VecDeque<Source>,
    /// Where the body comes from.
    current: Option<Source>,
    body: Option<Body>,
}

impl Feed {
    /// The sources of `range` by its first block.
    pub(crate) fn new(node: &Arc<Node>, file: &Arc<TicketFile>, range: Range<u64>, origin: Origin) -> Feed {
        Feed {
            sources: sources(node, file, range.start, origin),
            node: node.clone(),
            file: file.clone(),
            range,
            current: None,
            body: None,
        }
    }

    /// The next bytes; none after the last one of the range. An error is final.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        while !self.range.is_empty() {
            let Some(body) = &mut self.body else {
                self.open().await?;
                continue;
            };
            let bytes = match body {
                Body::Peer(worker, peer) => match peer.next().await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let worker = *worker;
                        peer_failed(worker, &error);
                        if matches!(error, PeerError::Damaged) && self.current == Some(Source::Owner(worker)) {
                            self.sources.push_front(Source::OwnerChecking(worker));
                        }
                        None
                    }
                },
                Body::Store(stream) => match stream.next().await {
                    Some(Ok(bytes)) => Some(bytes),
                    Some(Err(error)) => {
                        metrics::counter!(names::STORE_READ_FAILURES).increment(1);
                        return Err(error.into());
                    }
                    None => None,
                },
            };
            match bytes {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return self.take(bytes).map(Some),
                // The source has no more: the next one goes on.
                None => self.body = None,
            }
        }
        Ok(None)
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, RequestError> {
        let len = bytes.len() as u64;
        if len > self.range.end - self.range.start {
            return Err(RequestError::Internal("a store sent more bytes than asked for".into()));
        }
        self.range.start += len;
        match &self.body {
            Some(Body::Store(_)) => self.node.counters.fetched(len),
            _ => metrics::counter!(names::PEER_READ_BYTES).increment(len),
        }
        Ok(bytes)
    }

    /// Opens the next source. A worker that does not answer is no error: the body stays empty.
    async fn open(&mut self) -> Result<(), RequestError> {
        let source = self.sources.pop_front().ok_or_else(|| {
            RequestError::Unavailable("the store ended its answer before the end of the range".into())
        })?;
        self.current = Some(source);
        match source {
            Source::Owner(worker) => self.open_peer(worker, ReadHead::default()).await,
            Source::OwnerChecking(worker) => {
                self.open_peer(worker, ReadHead { verify: true, ..ReadHead::default() }).await
            }
            Source::PreviousOwner(worker) => {
                self.open_peer(worker, ReadHead { cached_only: true, ..ReadHead::default() }).await
            }
            Source::Store => {
                let store = self.node.store_of(&self.file).await?;
                metrics::counter!(names::STORE_READS).increment(1);
                let opened = store
                    .read(&self.file.ticket.key, self.range.clone(), &self.file.expected)
                    .await
                    .inspect_err(|_| metrics::counter!(names::STORE_READ_FAILURES).increment(1))?;
                self.body = Some(Body::Store(opened));
            }
        }
        Ok(())
    }

    async fn open_peer(&mut self, worker: WorkerId, wish: ReadHead) {
        let view = self.node.view.now();
        let Some(address) = view.address(worker) else {
            return;
        };
        let head = ReadHead {
            ticket: self.file.bytes.clone(),
            offset: self.range.start,
            length: self.range.end - self.range.start,
            from_worker: true,
            ..wish
        };
        match self.node.peers.read(address, &head).await {
            Ok(body) => self.body = Some(Body::Peer(worker, Box::new(body))),
            Err(error) => peer_failed(worker, &error),
        }
    }
}

fn peer_failed(worker: WorkerId, error: &PeerError) {
    metrics::counter!(names::PEER_READ_FAILURES).increment(1);
    tracing::debug!(%worker, %error, "another worker did not give its bytes");
}

fn sources(node: &Node, file: &TicketFile, at: u64, origin: Origin) -> VecDeque<Source> {
    let view = node.view.now();
    let block = file.block_of(file.page_of(at));
    let mut sources = VecDeque::new();
    match view.owner(block) {
        Some(owner) if owner != node.id => {
            if origin == Origin::Client {
                sources.push_back(Source::Owner(owner));
            }
        }
        // We are it, or nobody knows.
        _ => {
            let previous = view.previous_owners(block, Instant::now());
            sources.extend(previous.into_iter().filter(|worker| *worker != node.id).map(Source::PreviousOwner));
        }
    }
    sources.push_back(Source::Store);
    sources
}
