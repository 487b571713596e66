//! Asking other workers for cached bytes, over the same data plane that clients use.
//!
//! A worker that does not answer is left alone for a while ([`crate::Limits::peer_rest`]), so that its death costs a few reads their
//! time-out and not every read.

use crate::data::socket::{Connection, Socket};
use crate::error::ConnectionError;
use crate::settings::Limits;
use bytes::{Bytes, BytesMut};
use forebay_base::WorkerId;
use forebay_base::checksum::crc32c;
use forebay_proto::frame::{DataHead, ErrorHead, Header, Kind, ReadHead, decode_head, encode_frame, pieces};
use forebay_proto::v1::WorkerAddress;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes handed on at a time: a few of the socket's buffers.
const PART_LEN: usize = 256 << 10;

/// Why another worker did not give the bytes. The store is asked then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// It failed a moment ago.
    #[error("it is left alone after a failure")]
    Resting,
    /// It cannot be reached, or stalls.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It answered with an error.
    #[error("it answered {}: {}", .0.error_kind(), .0.message)]
    Refused(ErrorHead),
    /// Its bytes do not match their checksums: damaged on its disk, most likely.
    #[error("its bytes are damaged")]
    Damaged,
    /// What it sent is not what was asked for.
    #[error("it sent {0}")]
    BadAnswer(&'static str),
}

/// Connections to the other workers.
#[derive(Debug)]
pub(crate) struct Peers {
    pools: Mutex<HashMap<WorkerId, Pool>>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    progress_timeout: Duration,
    rest: Duration,
    idle_max: usize,
}

#[derive(Debug, Default)]
struct Pool {
    /// Where the connections lead; a worker that moved gets new ones.
    address: String,
    idle: Vec<Connection>,
    rests_until: Option<Instant>,
}

impl Peers {
    pub(crate) fn new(limits: &Limits) -> Arc<Peers> {
        Arc::new(Peers {
            pools: Mutex::default(),
            connect_timeout: limits.peer_connect_timeout,
            idle_timeout: limits.peer_idle_timeout,
            progress_timeout: limits.peer_progress_timeout,
            rest: limits.peer_rest,
            idle_max: limits.peer_connections_idle_max,
        })
    }

    /// Asks `peer` for a range.
    pub(crate) async fn read(self: &Arc<Self>, peer: &WorkerAddress, head: &ReadHead) -> Result<PeerBody, PeerError> {
        let (worker, asked) = (WorkerId(peer.worker), Instant::now());
        let begun = self.begin(peer, head).await;
        if let Err(PeerError::Connection(_) | PeerError::BadAnswer(_)) = &begun {
            self.let_rest(worker);
        }
        let (connection, first) = begun?;
        Ok(PeerBody {
            peers: self.clone(),
            worker,
            connection: Some(connection),
            next: Some(first),
            frame: Frame::default(),
            pace: Pace { waited: asked.elapsed(), arrived: 0 },
            at: head.offset,
            end: head.offset.saturating_add(head.length),
        })
    }

    /// Sends the request and waits for the first frame of the answer. A pooled connection may have died unnoticed, so it is tried before a new one.
    async fn begin(&self, peer: &WorkerAddress, head: &ReadHead) -> Result<(Connection, (Header, Bytes)), PeerError> {
        let request = encode_frame(Kind::Read, 1, head, 0);
        if let Some(mut pooled) = self.take(peer)?
            && let Ok(first) = ask(&mut pooled, &request).await
        {
            return Ok((pooled, first));
        }
        let mut fresh = self.connect(&peer.data).await?;
        let first = ask(&mut fresh, &request).await?;
        Ok((fresh, first))
    }

    fn take(&self, peer: &WorkerAddress) -> Result<Option<Connection>, PeerError> {
        let mut pools = self.pools.lock();
        let pool = pools.entry(WorkerId(peer.worker)).or_default();
        if pool.address != peer.data {
            *pool = Pool { address: peer.data.clone(), ..Pool::default() };
        }
        if pool.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(PeerError::Resting);
        }
        Ok(pool.idle.pop())
    }

    async fn connect(&self, address: &str) -> Result<Connection, ConnectionError> {
        let connected = tokio::time::timeout(self.connect_timeout, forebay_proto::dial::tcp(address));
        let stream = connected.await.map_err(|_| ConnectionError::Stalled(self.connect_timeout))??;
        stream.set_nodelay(true)?;
        Ok(Connection::new(Socket::Tcp(stream), self.idle_timeout))
    }

    fn give_back(&self, worker: WorkerId, connection: Connection) {
        if let Some(pool) = self.pools.lock().get_mut(&worker)
            && pool.idle.len() < self.idle_max
        {
            pool.idle.push(connection);
        }
    }

    fn let_rest(&self, worker: WorkerId) {
        if let Some(pool) = self.pools.lock().get_mut(&worker) {
            pool.idle.clear();
            pool.rests_until = Some(Instant::now() + self.rest);
        }
    }

    /// Forgets workers that are gone.
    pub(crate) fn retain(&self, known: impl Fn(WorkerId) -> bool) {
        self.pools.lock().retain(|worker, _| known(*worker));
    }
}

async fn ask(connection: &mut Connection, request: &[u8]) -> Result<(Header, Bytes), ConnectionError> {
    connection.send(request).await?;
    connection.next_frame().await
}

/// An answer as it arrives.
#[derive(Debug)]
pub(crate) struct PeerBody {
    peers: Arc<Peers>,
    worker: WorkerId,
    /// None once the answer is over or has failed.
    connection: Option<Connection>,
    /// A frame that has been read and not been looked at.
    next: Option<(Header, Bytes)>,
    frame: Frame,
    pace: Pace,
    at: u64,
    end: u64,
}

/// What is left of the data frame at hand.
#[derive(Debug, Default)]
struct Frame {
    rest: u64,
    checksums: std::vec::IntoIter<u32>,
}

/// What must come within the patience, of which only the time counts that is spent waiting for the peer: single bytes now and then are no progress.
const ARRIVING_MIN: u64 = 64 << 10;

/// How a peer gets on.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    waited: Duration,
    /// Since when so many bytes have come.
    arrived: u64,
}

impl Pace {
    /// What the peer is waited for, if it comes before the patience is over.
    async fn wait<T>(
        &mut self,
        patience: Duration,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let begun = Instant::now();
        let done = tokio::time::timeout(patience.saturating_sub(self.waited), work).await;
        self.waited += begun.elapsed();
        done.unwrap_or(Err(ConnectionError::Stalled(patience)))
    }

    fn arrived(&mut self, bytes: u64) {
        self.arrived += bytes;
        if self.arrived >= ARRIVING_MIN {
            *self = Pace::default();
        }
    }
}

impl PeerBody {
    /// The next bytes, checked; none at the end of the answer, which may be before the end of the range asked for.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        let next = self.advance().await;
        if let Err(PeerError::Connection(_) | PeerError::BadAnswer(_)) = &next {
            self.connection = None;
            self.peers.let_rest(self.worker);
        }
        next
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, PeerError> {
        while self.frame.rest == 0 {
            let Some(connection) = &mut self.connection else {
                return Ok(None);
            };
            let (header, head) = match self.next.take() {
                Some(frame) => frame,
                None => self.pace.wait(self.peers.progress_timeout, connection.next_frame()).await?,
            };
            match header.kind {
                Kind::Data => self.begin_frame(header.body_len, head)?,
                Kind::Done => {
                    self.finish();
                    return Ok(None);
                }
                Kind::Error => {
                    self.finish();
                    let head = decode_head(&head).map_err(ConnectionError::from)?;
                    return Err(PeerError::Refused(head));
                }
                _ => return Err(PeerError::BadAnswer("a frame of another kind")),
            }
        }
        self.frame_part().await.map(Some)
    }

    fn begin_frame(&mut self, body_len: u64, head: Bytes) -> Result<(), PeerError> {
        let head: DataHead = decode_head(&head).map_err(ConnectionError::from)?;
        let fits = head.offset == self.at && body_len <= self.end - self.at;
        if !fits || pieces(self.at, body_len).count() != head.checksums.len() {
            return Err(PeerError::BadAnswer("another range than asked for"));
        }
        self.frame = Frame { rest: body_len, checksums: head.checksums.into_iter() };
        Ok(())
    }

    /// Some whole pieces of the frame.
    async fn frame_part(&mut self) -> Result<Bytes, PeerError> {
        let Some(connection) = &mut self.connection else {
            return Err(PeerError::BadAnswer("nothing more"));
        };
        let mut lens = Vec::new();
        let mut len = 0;
        for piece in pieces(self.at, self.frame.rest) {
            if len + piece > PART_LEN {
                break;
            }
            lens.push(piece);
            len += piece;
        }
        let mut part = BytesMut::with_capacity(len);
        while part.len() < len {
            let missing = len - part.len();
            let patience = self.peers.progress_timeout;
            let arrived = self.pace.wait(patience, connection.body_some(&mut part, missing)).await?;
            self.pace.arrived(arrived as u64);
        }
        let mut rest = &part[..];
        for piece in lens {
            let (bytes, tail) = rest.split_at(piece);
            if self.frame.checksums.next() != Some(crc32c(bytes)) {
                // The rest of the frame is still to come.
                self.connection = None;
                return Err(PeerError::Damaged);
            }
            rest = tail;
        }
        self.at += len as u64;
        self.frame.rest -= len as u64;
        Ok(part.freeze())
    }

    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.peers.give_back(self.worker, connection);
        }
    }
}
