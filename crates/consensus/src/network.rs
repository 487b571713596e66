//! The way to other members. A group of one has none: every peer is unreachable, so that a member that was told of others by
//! its log cannot be taken for a quorum.

use std::future::Future;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::applier::SnapshotDir;
use crate::raft_types::{RaftVote, Types};

/// Reaches nobody.
pub(crate) struct Alone;

impl RaftNetworkFactory<Types> for Alone {
    type Network = Alone;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Alone {
        tracing::error!(
            member = target,
            address = node.addr,
            "the log names another member, and this release has no way to it"
        );
        Alone
    }
}

impl RaftNetworkV2<Types> for Alone {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn vote(&mut self, _: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _: RaftVote,
        _: openraft::alias::SnapshotOf<Types, SnapshotDir>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}

fn unreachable() -> Unreachable<Types> {
    Unreachable::new(&AnyError::error("a group of one has no peers"))
}
