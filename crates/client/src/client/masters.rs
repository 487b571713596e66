//! The masters themselves: administration.

use super::Client;
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::look::look;
use crate::rpc::{SILENCE_AMONG_SEVERAL, cause_of, lazy_channel};
use crate::types::{MasterGroup, MasterMember, MasterSnapshot, MastersSeen};
use forebay_base::{ErrorKind, HumanDuration};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::masters_client::MastersClient;
use futures::future::join_all;
use std::sync::atomic::{AtomicU32, Ordering};
use tonic::Request;
use tonic::transport::Channel;

fn masters(channel: Channel) -> MastersClient<Channel> {
    MastersClient::new(channel)
}

impl Client {
    /// All masters, as the one that leads sees them.
    pub async fn masters(&self) -> Result<MasterGroup> {
        let request = v1::ListMastersRequest { any: false };
        let send = |channel, request| async move { masters(channel).list_masters(request).await };
        Ok(self.inner.call(request, send).await?.into())
    }

    /// What each of the masters says, within [`Deadlines::connect`](crate::Deadlines::connect): for people who look what is wrong. It returns as soon as one is
    /// found that leads for certain. A client that is to be used needs one that leads.
    ///
    /// # Errors
    /// `invalid_argument` for an address that is none.
    pub async fn masters_seen(config: &ClientConfig) -> Result<MastersSeen> {
        look(config).await
    }

    /// Takes a master in, in place of another one if one is named. It must run with an empty directory, and wait.
    ///
    /// # Errors
    /// `conflict` when the group would lose its majority, or the new one cannot be taken in; nothing has changed then.
    pub async fn add_master(&self, address: &str, replaces: Option<&str>) -> Result<()> {
        let replaces = replaces.unwrap_or_default().to_owned();
        let request = v1::AddMasterRequest { address: address.to_owned(), replaces };
        let send = |channel, request| async move { masters(channel).add_master(request).await };
        self.inner.call(request, send).await.map(drop)
    }

    /// Lets a master go.
    ///
    /// # Errors
    /// `conflict` when the group would lose its majority, `not_found` for one that is none.
    pub async fn remove_master(&self, address: &str) -> Result<()> {
        let request = v1::RemoveMasterRequest { address: address.to_owned() };
        let attempts = AtomicU32::new(0);
        let send = |channel, request| {
            attempts.fetch_add(1, Ordering::Relaxed);
            async move { masters(channel).remove_master(request).await }
        };
        match self.inner.call(request, send).await {
            // An earlier attempt may have done it, and its answer was lost.
            Err(error) if error.kind() == ErrorKind::NotFound && attempts.into_inner() > 1 => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Gives the lead to a master, and returns when it leads.
    pub async fn transfer_lead(&self, address: &str) -> Result<()> {
        let request = v1::TransferLeadRequest { address: address.to_owned() };
        let send = |channel, request| async move { masters(channel).transfer_lead(request).await };
        self.inner.call(request, send).await.map(drop)
    }

    /// Raises the version of the cluster's behaviour to the newest that its masters know; returns the one before and the one in force now. There is no way back.
    ///
    /// # Errors
    /// `conflict` when not all masters know it, or one does not answer; nothing has changed then.
    pub async fn upgrade_masters(&self) -> Result<(u32, u32)> {
        let request = v1::UpgradeMastersRequest {};
        let send = |channel, request| async move { masters(channel).upgrade_masters(request).await };
        let reply = self.inner.call(request, send).await?;
        Ok((reply.before, reply.version))
    }

    /// Has each of the masters make its state durable now, with at least what the one that leads had when it was asked; says of each what has come of it.
    ///
    /// # Errors
    /// When the one that leads cannot be asked, or cannot do it.
    pub async fn snapshot_masters(&self) -> Result<Vec<MasterSnapshot>> {
        let request = v1::TakeSnapshotRequest { any: false, at_least: 0 };
        let send = |channel, request| async move { masters(channel).take_snapshot(request).await };
        let at_least = self.inner.call(request, send).await?.flushed_index;
        let members = self.masters().await?.masters;
        Ok(join_all(members.iter().map(|member| self.snapshot_of(member, at_least))).await)
    }

    /// Of one that may or may not lead.
    async fn snapshot_of(&self, member: &MasterMember, at_least: u64) -> MasterSnapshot {
        let flushed = async {
            let channel = lazy_channel(&member.address, SILENCE_AMONG_SEVERAL)?;
            let mut request = Request::new(v1::TakeSnapshotRequest { any: true, at_least });
            let deadline = self.inner.config.deadlines.metadata;
            request.set_timeout(deadline);
            let asked = tokio::time::timeout(deadline, masters(channel).take_snapshot(request)).await;
            let silent = |why: String| Error::new(ErrorKind::Unavailable, format!("no answer: {why}"));
            match asked {
                Ok(Ok(reply)) => Ok(reply.into_inner().flushed_index),
                Ok(Err(status)) if !status.details().is_empty() => Err(WireError::from(&status).into()),
                Ok(Err(status)) => Err(silent(cause_of(&status))),
                Err(_) => Err(silent(format!("nothing within {}", HumanDuration(deadline)))),
            }
        };
        let flushed_index = match flushed.await {
            Ok(index) if index < at_least => Err(Error::new(
                ErrorKind::Unavailable,
                format!("it is behind: durable up to entry {index}, and the leader is up to {at_least}"),
            )),
            outcome => outcome,
        };
        MasterSnapshot { address: member.address.clone(), leader: member.leader, flushed_index }
    }
}
