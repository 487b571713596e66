//! The door: a [`Client`] and its calls, by subject.

pub(crate) mod cached;
mod cluster;
mod metadata;
mod mounts;

use crate::buffers::Buffers;
use crate::config::ClientConfig;
use crate::error::Result;
use crate::local::registry::Registry;
use crate::request_ids::RequestIds;
use crate::rpc::{Ask, Masters, REPLY_LEN_MAX};
use crate::workers::Workers;
use forebay_proto::v1::cluster_client::ClusterClient;
use forebay_proto::v1::mounts_client::MountsClient;
use forebay_proto::v1::namespace_client::NamespaceClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

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
    /// Connects to a cluster: asks a master for the list of workers.
    ///
    /// # Errors
    /// `invalid_argument` for an address that is none; `unavailable` when no master answers within [`Deadlines::connect`](crate::Deadlines::connect).
    pub async fn connect(config: ClientConfig) -> Result<Client> {
        let masters = Arc::new(Masters::new(&config)?);
        let config = Arc::new(config);
        let workers = Workers::connect(masters.clone(), config.clone()).await?;
        Ok(Client {
            inner: Arc::new(Inner {
                masters,
                workers,
                request_ids: RequestIds::new(),
                local_files: Registry::new(config.local_files_max),
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

impl Inner {
    /// A call of the namespace service.
    pub(crate) async fn ask<Q: Ask>(&self, request: Q) -> Result<Q::Reply> {
        self.ask_within(self.config.deadlines.metadata, request).await
    }

    /// A call of the namespace service with a deadline of its own.
    pub(crate) async fn ask_within<Q: Ask>(&self, deadline: Duration, request: Q) -> Result<Q::Reply> {
        self.masters.ask(&request, deadline).await
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

pub(crate) fn namespace(channel: Channel) -> NamespaceClient<Channel> {
    NamespaceClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}

fn mounts(channel: Channel) -> MountsClient<Channel> {
    MountsClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}

pub(crate) fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}
