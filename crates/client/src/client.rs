//! The door: a [`Client`] and its calls, by subject.

mod backups;
pub(crate) mod cached;
mod cluster;
mod masters;
mod metadata;
mod mounts;

use crate::buffers::Buffers;
use crate::config::ClientConfig;
use crate::direct::Direct;
use crate::error::Result;
use crate::local::registry::Registry;
use crate::look::Look;
use crate::request_ids::{RequestId, RequestIds};
use crate::rpc::{Ask, Masters, REPLY_LEN_MAX, Read};
use crate::types::{MasterSeen, SyncMode};
use crate::waits::Cause;
use crate::workers::Workers;
use forebay_base::ErrorKind;
use forebay_proto::v1::ReadBound;
use forebay_proto::v1::cluster_client::ClusterClient;
use forebay_proto::v1::mounts_client::MountsClient;
use forebay_proto::v1::namespace_client::NamespaceClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// A read that allows less than this is the leader's.
const STALENESS_MIN: Duration = Duration::from_millis(1);

/// A connection to one Forebay cluster. Cheap to clone; clones share connections, buffers and descriptors.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones of a client, its files and its writers share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) masters: Arc<Masters>,
    pub(crate) request_ids: RequestIds,
    pub(crate) workers: Arc<Workers>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) local_files: Arc<Registry>,
    /// None where stores must not be read.
    pub(crate) direct: Option<Direct>,
    pub(crate) ending: Ending,
}

/// Counts the writes that were dropped and of which the masters do not know yet.
#[derive(Debug, Default)]
pub(crate) struct Ending(watch::Sender<usize>);

/// One of them; dropped when it is over.
pub(crate) struct EndingWrite(watch::Sender<usize>);

impl Ending {
    pub(crate) fn begin(&self) -> EndingWrite {
        self.0.send_modify(|count| *count += 1);
        EndingWrite(self.0.clone())
    }
}

impl Drop for EndingWrite {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Client {
    /// Connects to a cluster: asks the master that leads for the list of workers, or any master where old answers are allowed
    /// ([`ClientConfig::max_staleness`]), so that there need be none that leads.
    ///
    /// # Errors
    /// `invalid_argument` for an address that is none; `unavailable` when no such master answers within [`Deadlines::connect`](crate::Deadlines::connect).
    pub async fn connect(config: ClientConfig) -> Result<Client> {
        let config = Arc::new(ClientConfig { deadlines: config.deadlines.bounded(), ..config });
        let masters = Arc::new(Masters::new(&config)?);
        // Boxed: futures that are moved count twice.
        let connecting = Box::pin(Workers::connect(masters.clone(), config.clone()));
        let workers = or_why_not(&config, connecting).await?;
        Ok(Client {
            inner: Arc::new(Inner {
                masters,
                workers,
                request_ids: RequestIds::new(),
                local_files: Registry::new(config.local_files_max),
                direct: config.direct_reads.then(Direct::new),
                buffers: Buffers::new(config.buffer_memory.bytes()),
                ending: Ending::default(),
                config,
            }),
        })
    }

    /// Waits until the masters know of all writers that were dropped unfinished that they are abandoned. A program that ends before has them
    /// abandoned too, but only when their lease ends. It may take as long as [`Deadlines::metadata`](crate::Deadlines::metadata): put a bound around it.
    pub async fn settled(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.inner.ending.0.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The settings that the client was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }
}

/// Connects, and finds out meanwhile, when that takes long, why no master serves: what is said at the end is what is the matter with the masters, not just
/// what the last one that was asked knows of it.
async fn or_why_not<T>(config: &ClientConfig, connecting: impl Future<Output = Result<T>>) -> Result<T> {
    let (look, deadline) = (Look::new(config), config.deadlines.connect);
    let end = Instant::now() + deadline;
    // Boxed: every connect would grow by what few need.
    let looking = Box::pin(async {
        tokio::time::sleep(deadline / 2).await;
        look.until(end, &Cause::default()).await;
        std::future::pending().await
    });
    let outcome = tokio::select! {
        outcome = connecting => outcome,
        never = looking => never,
    };
    outcome.map_err(|error| {
        let seen = look.seen();
        let of_the_masters = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
        // Where nobody answers, or was asked, that is all there is to know.
        let known = of_the_masters && seen.masters.iter().any(MasterSeen::answers);
        match seen.trouble().filter(|_| known) {
            Some(trouble) => trouble.within(deadline).with_source(error),
            None => error,
        }
    })
}

impl Inner {
    /// A call of the namespace service.
    pub(crate) async fn ask<Q: Ask>(&self, request: Q) -> Result<Q::Reply> {
        self.ask_within(self.config.deadlines.metadata, request).await
    }

    /// How old the answer to a read may be that begins now; none: only the master that leads answers it.
    ///
    /// Whoever has changed something is to see it: what is asked for is no older than the last change of this client. And what it has seen
    /// it sees again.
    pub(crate) fn read_bound(&self, sync: SyncMode) -> Option<ReadBound> {
        if self.config.max_staleness.is_zero() || sync == SyncMode::Now {
            return None;
        }
        let since_change = self.request_ids.since_last().unwrap_or(Duration::MAX);
        read_bound(self.config.max_staleness.min(since_change), self.masters.seen())
    }

    /// A call of the namespace service that reads, which any master may answer as far as the settings allow old answers.
    pub(crate) async fn read<Q: Read>(&self, sync: SyncMode, mut request: Q) -> Result<Q::Reply> {
        let deadline = self.config.deadlines.metadata;
        let reply = match self.read_bound(sync) {
            None => self.masters.ask(&request, deadline).await?,
            Some(bound) => {
                request.set_bound(bound);
                // Boxed: all that read would grow by what few need.
                Box::pin(self.masters.ask_near(&request, deadline)).await?
            }
        };
        self.masters.saw(Q::index(&reply));
        Ok(reply)
    }

    /// A call of the namespace service with a deadline of its own.
    pub(crate) async fn ask_within<Q: Ask>(&self, deadline: Duration, request: Q) -> Result<Q::Reply> {
        self.masters.ask(&request, deadline).await
    }

    /// The id of a metadata call that changes something, with the deadline of one.
    pub(crate) async fn begin_change(&self) -> Result<RequestId<'_>> {
        self.request_ids.begin(self.config.deadlines.metadata).await
    }

    /// A metadata call.
    pub(crate) async fn call<Q: Clone, R, F>(&self, request: Q, send: impl Fn(Channel, Request<Q>) -> F) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_within(self.config.deadlines.metadata, request, send).await
    }

    /// A call with a deadline of its own.
    pub(crate) async fn call_within<Q: Clone, R, F>(
        &self,
        deadline: Duration,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.masters.call(request, deadline, send).await
    }
}

/// What a read tells masters that may be answered so late, by a client that has seen so much of the log; none: it is the leader's.
pub(crate) fn read_bound(staleness: Duration, seen_index: u64) -> Option<ReadBound> {
    // A master that does not lead would have to ask the leader for each read.
    if staleness < STALENESS_MIN {
        return None;
    }
    let max_staleness_us = u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX);
    Some(ReadBound { max_staleness_us, seen_index })
}

pub(crate) fn namespace(channel: Channel) -> NamespaceClient<Channel> {
    NamespaceClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}

fn mounts(channel: Channel) -> MountsClient<Channel> {
    MountsClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}

pub(crate) fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}
