//! Administration of the masters.

use crate::error::{change_error, invalid, log_error};
use crate::group::{id_of, keys_fit};
use crate::seat::{Seat, not_leading, trouble};
use crate::upgrade::{self, Upgraded};
use forebay_base::ErrorKind;
use forebay_consensus::{Build, Consensus, Member, MemberId, PeerStatus};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::masters_server::Masters;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long another master has to say what it runs, for a list: one that is silent is named as such anyway.
const BUILD_ANSWER: Duration = Duration::from_millis(500);

/// How long one that lacks entries waits for them before it makes durable what it has.
const LAG_PATIENCE: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub(crate) struct MastersService(pub(crate) Arc<Seat>);

impl MastersService {
    /// The log, if this master leads: only the leader knows how the others are, and changes the group.
    fn leading(&self) -> Result<Arc<Consensus>, WireError> {
        let consensus = self.0.consensus()?;
        match consensus.is_leader() {
            true => Ok(Arc::clone(consensus)),
            false => Err(not_leading(&consensus.status())),
        }
    }
}

#[tonic::async_trait]
impl Masters for MastersService {
    async fn list_masters(
        &self,
        request: Request<v1::ListMastersRequest>,
    ) -> Result<Response<v1::ListMastersReply>, Status> {
        // Whoever acts on the answer asks the leader.
        let any = request.into_inner().any;
        let consensus = if any { Arc::clone(self.0.consensus()?) } else { self.leading()? };
        let doubt = match consensus.is_leader() {
            true => consensus.read_barrier().await.map_err(log_error).err(),
            false => Some(not_leading(&consensus.status())),
        };
        let status = consensus.status();
        let doubt = match doubt {
            Some(error) if !any => return Err(error.into()),
            Some(error) => trouble(&status).map_or(error.message, |trouble| trouble.message),
            None => String::new(),
        };
        let (own, leader) = (status.member.id, status.leader.as_ref().map(|leader| leader.id));
        let builds = consensus.builds(BUILD_ANSWER).await;
        let describe = |peer: &PeerStatus| {
            let build = builds.iter().find(|(member, _)| member.id == peer.member.id);
            let build = build.and_then(|(_, build)| build.as_ref().ok());
            describe(peer, peer.member.id == own, leader, status.last_index, build)
        };
        Ok(Response::new(v1::ListMastersReply {
            masters: status.peers.iter().map(describe).collect(),
            seen_by: status.member.address.clone(),
            doubt,
            term: status.term,
            last_index: status.last_index.unwrap_or(0),
            flushed_index: status.flushed_index.unwrap_or(0),
            cluster_version: consensus.cluster_version(),
        }))
    }

    async fn add_master(&self, request: Request<v1::AddMasterRequest>) -> Result<Response<v1::AddMasterReply>, Status> {
        let request = request.into_inner();
        let consensus = self.leading()?;
        let new = Member { id: id_of(check(&request.address)?), address: request.address.clone() };
        if let Some(keys) = self.0.keys() {
            let refused = |reason| WireError::new(ErrorKind::Conflict, reason);
            keys_fit(keys, &new).await.map_err(refused)?;
        }
        // One that has another name is in already: it has moved there, or was the first of all.
        let known = find(&consensus, &new.address).ok();
        // In a task of its own: a change that has begun is not left half done when the caller goes.
        let work = async move {
            match request.replaces.as_str() {
                "" => consensus.add(known.unwrap_or(new)).await,
                old => match find(&consensus, old) {
                    Ok(old) => consensus.replace(old.id, new).await,
                    // It has gone in an earlier attempt.
                    Err(_) if old == new.address => consensus.add(new).await,
                    Err(_) if known.is_some() => consensus.add(known.unwrap_or(new)).await,
                    Err(unknown) => return Err(unknown),
                },
            }
            .map_err(change_error)
        };
        finished(tokio::spawn(work).await)?;
        Ok(Response::new(v1::AddMasterReply {}))
    }

    async fn remove_master(
        &self,
        request: Request<v1::RemoveMasterRequest>,
    ) -> Result<Response<v1::RemoveMasterReply>, Status> {
        let consensus = self.leading()?;
        let member = find(&consensus, &request.into_inner().address)?;
        let work = async move { consensus.remove(member.id).await.map_err(change_error) };
        finished(tokio::spawn(work).await)?;
        Ok(Response::new(v1::RemoveMasterReply {}))
    }

    async fn transfer_lead(
        &self,
        request: Request<v1::TransferLeadRequest>,
    ) -> Result<Response<v1::TransferLeadReply>, Status> {
        let request = request.into_inner();
        let consensus = self.0.consensus()?;
        // Asked again after it succeeded, as a client does whose answer was lost: the one that was wished for leads.
        if consensus.status().member.address == request.address && consensus.is_leader() {
            return Ok(Response::new(v1::TransferLeadReply {}));
        }
        let consensus = self.leading()?;
        let member = find(&consensus, &request.address)?;
        let work = async move { consensus.transfer(member.id).await.map_err(change_error) };
        finished(tokio::spawn(work).await)?;
        Ok(Response::new(v1::TransferLeadReply {}))
    }

    async fn take_snapshot(
        &self,
        request: Request<v1::TakeSnapshotRequest>,
    ) -> Result<Response<v1::TakeSnapshotReply>, Status> {
        let v1::TakeSnapshotRequest { any, at_least } = request.into_inner();
        let consensus = if any { Arc::clone(self.0.consensus()?) } else { self.leading()? };
        if consensus.status().members.is_empty() {
            return Err(not_leading(&consensus.status()).into());
        }
        // Who lags behind does what it can: how far that is it says.
        consensus.applied(at_least, LAG_PATIENCE).await;
        let flushed_index = consensus.flush_now().await.map_err(log_error)?;
        Ok(Response::new(v1::TakeSnapshotReply { flushed_index }))
    }

    async fn upgrade_masters(
        &self,
        _: Request<v1::UpgradeMastersRequest>,
    ) -> Result<Response<v1::UpgradeMastersReply>, Status> {
        let (core, consensus) = (self.0.core()?, self.leading()?);
        let work = async move { upgrade::upgrade(&core, &consensus).await };
        let Upgraded { before, now } = finished(tokio::spawn(work).await)?;
        Ok(Response::new(v1::UpgradeMastersReply { before, version: now }))
    }
}

fn describe(
    peer: &PeerStatus,
    own: bool,
    leader: Option<MemberId>,
    last_index: Option<u64>,
    build: Option<&Build>,
) -> v1::MasterMember {
    v1::MasterMember {
        id: peer.member.id.0,
        address: peer.member.address.clone(),
        leader: leader == Some(peer.member.id),
        votes: peer.votes,
        matched_index: if own { last_index } else { peer.matched_index },
        silent_ms: peer.silent.filter(|_| !own).map(|silent| silent.as_millis() as u64),
        trouble: peer.trouble.clone().unwrap_or_default(),
        release: build.map(|build| build.release.clone()).unwrap_or_default(),
        version_oldest: build.map_or(0, |build| build.versions.oldest),
        version_newest: build.map_or(0, |build| build.versions.newest),
    }
}

fn check(address: &str) -> Result<&str, WireError> {
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    match port {
        Some(_) => Ok(address),
        None => {
            Err(invalid(format!("{address:?} is not the address of a master"), "write host:port, as in 10.0.0.1:7400"))
        }
    }
}

fn find(consensus: &Consensus, address: &str) -> Result<Member, WireError> {
    let status = consensus.status();
    let found = status.members.iter().find(|member| member.address == address);
    let addresses = || status.members.iter().map(|member| member.address.as_str()).collect::<Vec<_>>().join(", ");
    found.cloned().ok_or_else(|| {
        WireError::new(ErrorKind::NotFound, format!("no master {address}"))
            .with_hint(format!("the masters are {}", addresses()))
    })
}

fn finished<T>(outcome: Result<Result<T, WireError>, tokio::task::JoinError>) -> Result<T, WireError> {
    outcome.unwrap_or_else(|error| Err(crate::error::internal(format!("a change of the masters ended: {error}"))))
}
