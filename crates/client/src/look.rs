//! A look at each of the masters, for people who want to know why nobody serves them.
//!
//! A call goes from master to master until one serves it, and ends with what the last one said. Here all of them are asked side by side, those that the group
//! names besides the list included: who answers, who does not, and which group the ones that answer know of.

use crate::config::ClientConfig;
use crate::error::Result;
use crate::rpc::{Masters, SILENCE_AMONG_SEVERAL, answers_http, cause_of, lazy_channel};
use crate::types::{MasterAnswer, MasterGroup, MasterSeen, MastersSeen};
use crate::waits::{Cause, Slowness, watch};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::masters_client::MastersClient;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::Channel;

/// How long one of them has for its answer: a leader that makes sure that it leads, and asks all others what they run, needs a part of it.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Between two looks at all.
const PAUSE: Duration = Duration::from_millis(200);

/// What was seen so far; the way to each master is kept from look to look.
#[derive(Debug)]
pub(crate) struct Look {
    listed: Vec<String>,
    channels: Mutex<HashMap<String, Channel>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    group: Option<MasterGroup>,
    answers: HashMap<String, MasterAnswer>,
}

/// What an answer was.
enum Told {
    Group(MasterGroup),
    Else(MasterAnswer),
}

impl Look {
    pub(crate) fn new(config: &ClientConfig) -> Look {
        Look { listed: config.masters.clone(), channels: Mutex::default(), seen: Mutex::default() }
    }

    /// Looks again and again, until one is found that leads for certain, or `end`.
    pub(crate) async fn until(&self, end: Instant, cause: &Cause) {
        let looking = async {
            while !self.round(end).await {
                cause.set(self.seen().in_words());
                tokio::time::sleep(PAUSE).await;
            }
        };
        // What was seen by then is kept.
        let _ = tokio::time::timeout_at(end, looking).await;
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> MastersSeen {
        let Seen { group, answers } = &*self.seen.lock();
        let masters = self.addresses(group.as_ref()).into_iter().map(|address| {
            let unknown = || MasterAnswer::Silent("no answer yet".to_owned());
            MasterSeen { answer: answers.get(&address).cloned().unwrap_or_else(unknown), address }
        });
        MastersSeen { masters: masters.collect(), listed: self.listed.len(), group: group.clone() }
    }

    /// Those of the list, then those that the group has besides.
    fn addresses(&self, group: Option<&MasterGroup>) -> Vec<String> {
        let mut addresses = self.listed.clone();
        for master in group.iter().flat_map(|group| &group.masters) {
            if !addresses.contains(&master.address) {
                addresses.push(master.address.clone());
            }
        }
        addresses
    }

    /// Asks each once, and then those of whom only an answer told. Whether one leads for certain.
    async fn round(&self, end: Instant) -> bool {
        let mut asked = Vec::new();
        loop {
            let known = self.addresses(self.seen.lock().group.as_ref());
            let new: Vec<String> = known.into_iter().filter(|address| !asked.contains(address)).collect();
            if new.is_empty() {
                return false;
            }
            asked.extend(new.iter().cloned());
            // Late enough to be waited for, and early enough to be told.
            let patience = (end.saturating_duration_since(Instant::now()) * 3 / 4).min(ANSWER_MAX);
            let mut answers: FuturesUnordered<_> =
                new.into_iter().map(|address| async move { (self.ask(&address, patience).await, address) }).collect();
            while let Some((told, address)) = answers.next().await {
                if self.seen.lock().take(address, told) {
                    return true;
                }
            }
        }
    }

    async fn ask(&self, address: &str, patience: Duration) -> Told {
        let channel = match self.channel(address) {
            Ok(channel) => channel,
            Err(why) => return Told::Else(MasterAnswer::Silent(why)),
        };
        let mut request = Request::new(v1::ListMastersRequest { any: true });
        request.set_timeout(patience);
        let silent = |why: String| Told::Else(MasterAnswer::Silent(why));
        match tokio::time::timeout(patience, MastersClient::new(channel).list_masters(request)).await {
            Ok(Ok(reply)) => told(reply.into_inner().into()),
            Ok(Err(status)) if !status.details().is_empty() => {
                Told::Else(MasterAnswer::Says(WireError::from(&status).message))
            }
            Ok(Err(status)) if answers_http(&status) => silent("it answers HTTP and is no port of a master".to_owned()),
            Ok(Err(status)) => silent(cause_of(&status)),
            Err(_) => silent(format!("no answer within {:.1} s", patience.as_secs_f64())),
        }
    }

    fn channel(&self, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock();
        if let Some(known) = channels.get(address) {
            return Ok(known.clone());
        }
        let made = lazy_channel(address, SILENCE_AMONG_SEVERAL).map_err(|error| error.message().to_owned())?;
        channels.insert(address.to_owned(), made.clone());
        Ok(made)
    }
}

/// Who belongs to no group has nothing to list, and says what it waits for.
fn told(group: MasterGroup) -> Told {
    match group.masters.is_empty() {
        true => Told::Else(MasterAnswer::Says(group.doubt)),
        false => Told::Group(group),
    }
}

impl Seen {
    /// Takes an answer down. Whether it is that of one that leads for certain.
    fn take(&mut self, address: String, told: Told) -> bool {
        let group = match told {
            Told::Group(group) => group,
            Told::Else(answer) => {
                self.answers.insert(address, answer);
                return false;
            }
        };
        self.answers.insert(address, MasterAnswer::Says(group.doubt.clone()));
        let leads = group.doubt.is_empty();
        let newest = |known: &MasterGroup| (known.term, known.last_index);
        let newer = self.group.as_ref().is_none_or(|known| newest(known) <= newest(&group));
        if leads || newer {
            self.group = Some(group);
        }
        leads
    }
}

/// Looks at all masters until one is found that leads for certain, or the deadline of connecting.
pub(crate) async fn look(config: &ClientConfig) -> Result<MastersSeen> {
    // What is no address is told at once.
    let masters = Masters::new(config)?;
    let (look, cause, deadline) = (Look::new(config), Cause::default(), config.deadlines.bounded().connect);
    let what = || format!("the masters ({})", config.masters.join(", "));
    let work = pin!(look.until(Instant::now() + deadline, &cause));
    watch(config.on_wait.as_ref(), Slowness::Odd, deadline, &cause, what, work).await;
    let seen = look.seen();
    match seen.masters.as_slice() {
        [MasterSeen { answer: MasterAnswer::Silent(why), .. }] if why.contains("answers HTTP") => {
            Err(masters.no_master())
        }
        _ => Ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MasterMember;

    fn group(term: u64, last_index: u64, doubt: &str) -> Told {
        let master = MasterMember {
            id: 1,
            address: "c:1".to_owned(),
            leader: false,
            votes: true,
            matched_index: None,
            silent_ms: None,
            trouble: String::new(),
            release: String::new(),
            versions: None,
        };
        Told::Group(MasterGroup {
            masters: vec![master],
            term,
            last_index,
            flushed_index: 0,
            seen_by: String::new(),
            doubt: doubt.to_owned(),
            cluster_version: 1,
        })
    }

    #[test]
    fn the_newest_group_is_kept_and_its_members_are_looked_at() {
        let look = Look::new(&ClientConfig::new(["a:1", "b:1"]));
        let take = |address: &str, told| look.seen.lock().take(address.to_owned(), told);
        let shown = || look.seen().masters.into_iter().map(|master| master.address).collect::<Vec<_>>();
        assert_eq!(shown(), ["a:1", "b:1"]);
        assert!(!take("a:1", group(3, 10, "it waits")));
        assert!(!take("b:1", group(2, 90, "it waits")));
        assert_eq!(look.seen().group.unwrap().term, 3);
        assert_eq!(shown(), ["a:1", "b:1", "c:1"]);
        assert!(take("b:1", group(2, 90, "")), "who leads for certain knows");
        assert_eq!(look.seen().group.unwrap().term, 2);
    }
}
