//! The keys that all masters have in common, for one that has none yet.

use super::{Place, transport};
use crate::data_dir::{DataDir, DataDirError, Keys};
use crate::seat::Seat;
use forebay_consensus::Member;
use forebay_proto::v1;
use forebay_proto::v1::members_client::MembersClient;
use std::time::Duration;
use tonic::Request;

/// How long one master has for its answer, and how long nobody is asked again.
const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// The keys in `data`, or those of the other masters, which are stored then. One that is alone, or founds the group, draws them; the founder
/// only when all others have said that they have none: it may be an old one that lost its directory. Waits for others as long as it takes.
pub(crate) async fn find(data: &DataDir, place: &Place, seat: &Seat) -> Result<Keys, DataDirError> {
    if let Some(keys) = data.keys()? {
        return check_own(data, place, keys).await;
    }
    let mut said = String::new();
    loop {
        let keys = match ask_all(place).await {
            Ok(Some(keys)) => keys,
            Ok(None) if place.founds() => Keys::draw(),
            outcome => {
                let why = outcome.err().unwrap_or_else(|| place.waits_for_founder());
                if why != said {
                    tracing::info!("waiting for the other masters: {why}");
                    seat.waits_for(why.clone());
                    said = why;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        data.store_keys(&keys)?;
        return Ok(keys);
    }
}

/// The keys that are here, unless others have other ones and these have sealed nothing: a master that ran alone before, and begins anew.
async fn check_own(data: &DataDir, place: &Place, own: Keys) -> Result<Keys, DataDirError> {
    if data.has_begun()? {
        return Ok(own);
    }
    // Whom nobody answers has no other ones. When it is taken in they are compared.
    let others = ask_all(place).await.ok().flatten();
    match others.filter(|others| *others != own) {
        Some(others) => {
            tracing::warn!(cluster = others.cluster_id, "this master takes the keys of the others in place of its own");
            data.store_keys(&others)?;
            Ok(others)
        }
        None => Ok(own),
    }
}

/// Whether a master can be taken in: it has the same keys, or none yet. One that does not answer is none of this function's business.
pub(crate) async fn fit(own: &Keys, member: &Member) -> Result<(), String> {
    match ask(member).await {
        Ok(Some(keys)) if keys != *own => Err(format!(
            "the master at {} has the keys of another cluster ({}): stop it, and start it with an empty data directory and the list of all masters",
            member.address, keys.cluster_id
        )),
        _ => Ok(()),
    }
}

/// The keys that another master has; `None` if all answered and none has any. The error names all that did not answer.
async fn ask_all(place: &Place) -> Result<Option<Keys>, String> {
    let mut silent = Vec::new();
    for member in place.all.iter().filter(|member| member.id != place.own.id) {
        match ask(member).await {
            Ok(Some(keys)) => return Ok(Some(keys)),
            Ok(None) => {}
            Err(why) => silent.push(format!("{}: {why}", member.address)),
        }
    }
    if silent.is_empty() { Ok(None) } else { Err(silent.join(", ")) }
}

/// The first of the other masters that runs and belongs to a cluster, with that cluster. Those that do not answer are taken for not there.
pub(crate) async fn find_running(place: &Place) -> Option<(Member, String)> {
    for member in place.all.iter().filter(|member| member.id != place.own.id) {
        if let Ok(Some(keys)) = ask(member).await {
            return Some((member.clone(), keys.cluster_id));
        }
    }
    None
}

async fn ask(member: &Member) -> Result<Option<Keys>, String> {
    let channel = transport::channel(&member.address).map_err(|e| e.to_string())?;
    let mut request = Request::new(v1::KeysRequest {});
    request.set_timeout(ANSWER);
    let reply = tokio::time::timeout(ANSWER, MembersClient::new(channel).keys(request)).await;
    let reply = reply.map_err(|_| "no answer".to_owned())?.map_err(|status| transport::reason(&status))?.into_inner();
    if !reply.settled {
        return Ok(None);
    }
    let key = |bytes: bytes::Bytes| bytes.as_ref().try_into().map_err(|_| "it sent a key of another length".to_owned());
    let (ticket_key, secret_key) = (key(reply.ticket_key)?, key(reply.secret_key)?);
    Ok(Some(Keys { cluster_id: reply.cluster_id, ticket_key, secret_key }))
}
