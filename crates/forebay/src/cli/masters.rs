//! `forebay masters …`: the group of masters.

use crate::cli::{failure::Failures, output};
use crate::config::Settings;
use crate::server;
use anyhow::bail;
use clap::{Args, Subcommand};
use forebay_client::{Client, ClientConfig, MasterAnswer, MasterGroup, MasterMember, MasterSnapshot, MastersSeen};
use serde_json::{Value, json};
use std::time::Duration;

/// What to do with the masters.
#[derive(Debug, Subcommand)]
pub(crate) enum MastersCommand {
    /// Lists the masters: who leads, and how far each is.
    List {
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Led(LedCommand),
}

/// What a leader must be there for.
#[derive(Debug, Subcommand)]
pub(crate) enum LedCommand {
    /// Takes a master in that was started with an empty data directory and this cluster's masters in its list.
    Add(Add),
    /// Lets a master go; its process may be stopped afterwards.
    Remove {
        /// Its address (host:port), as listed.
        address: String,
    },
    /// Gives the lead to another master.
    Transfer {
        /// Its address (host:port), as listed.
        address: String,
    },
    /// Has each master put its state on disk now, so that the logs may forget what led to it.
    Snapshot,
    /// Takes the newest behaviour into use that all masters know, for good: older releases cannot run in this cluster any more.
    Upgrade,
    /// Sets the damaged log and state of this host's master aside, so that it can be built anew from the others.
    Rebuild {
        /// Also when the others may not have all that this one has confirmed. What only it has is lost then.
        #[arg(long)]
        force: bool,
    },
}

/// Takes a master in.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its address (host:port), as the others reach it.
    address: String,
    /// The address of one that goes in the same change, perhaps since it is dead; its own address, if it lost its data directory, or its
    /// old one, if it has moved with its data.
    #[arg(long, value_name = "HOST:PORT")]
    replace: Option<String>,
}

/// Runs a command that needs the leader.
pub(crate) async fn run(command: LedCommand, settings: &Settings, client: &Client) -> anyhow::Result<()> {
    match command {
        LedCommand::Add(add) => {
            client.add_master(&add.address, add.replace.as_deref()).await?;
            output::line(format_args!("{} is a master now; put it into `masters` everywhere", add.address));
        }
        LedCommand::Remove { address } => {
            client.remove_master(&address).await?;
            output::line(format_args!("{address} is no master any more; take it out of `masters` everywhere"));
        }
        LedCommand::Transfer { address } => {
            client.transfer_lead(&address).await?;
            output::line(format_args!("{address} leads"));
        }
        LedCommand::Snapshot => {
            let failures = Failures::default();
            client.snapshot_masters().await?.into_iter().for_each(|one| tell_snapshot(one, &failures));
            failures.end()?;
        }
        LedCommand::Upgrade => match client.upgrade_masters().await? {
            (before, now) if before == now => {
                output::line(format_args!("the cluster's version is {now} already, and no master knows a newer one"));
            }
            (before, now) => output::line(format_args!("the cluster's version is {now}, it was {before}")),
        },
        LedCommand::Rebuild { force } => rebuild(settings, client, force).await?,
    }
    Ok(())
}

/// Says of one master what has come of it; what went wrong does not keep the others from being told.
fn tell_snapshot(one: MasterSnapshot, failures: &Failures) {
    let MasterSnapshot { address, leader, flushed_index } = one;
    let named = if leader { format!("{address} (leader)") } else { address };
    let flushed_index = flushed_index.map_err(|error| anyhow::Error::from(error).context(named.clone()));
    if let Some(index) = failures.take(flushed_index) {
        output::line(format_args!("{named}: durable up to entry {index}"));
    }
}

/// Lists the masters, as the leader sees them; without one, as the one that has the newest of it does.
pub(crate) async fn list(json: bool, config: &ClientConfig) -> anyhow::Result<()> {
    let seen = Client::masters_seen(config).await?;
    let Some(group) = &seen.group else {
        let trouble = seen.trouble().map(|trouble| trouble.within(config.deadlines.connect));
        return trouble.map_or(Ok(()), |trouble| Err(trouble.into()));
    };
    match json {
        true => output::line(to_json(group, &seen)),
        false => print(group, &seen),
    }
    Ok(())
}

/// Only when the others serve without this one, and have all that it has: what is set aside here counts no more.
async fn rebuild(settings: &Settings, client: &Client, force: bool) -> anyhow::Result<()> {
    let group = client.masters().await?;
    let address = server::own_address(settings);
    let Some(own) = group.masters.iter().find(|master| master.address == address) else {
        bail!("{address} is none of the masters; run this on the host of the damaged one, with its configuration");
    };
    if own.leader || group.masters.len() == 1 {
        bail!("{address} leads; only a master that does not run, while others serve, can be built anew");
    }
    forebay_master::is_unused(&server::master_directory(settings))?;
    if !force {
        wait_until_others_have_all(client, own.id).await?;
    }
    let aside = forebay_master::set_aside(&server::master_directory(settings))?;
    output::line(format_args!(
        "log and state are in {} now; start the server again, and then: forebay masters add {address} --replace {address}",
        aside.display()
    ));
    Ok(())
}

/// Between two looks at the others.
const LOOK: Duration = Duration::from_millis(200);
/// They confirm what is under way in no time, if they do.
const LOOKS_MAX: u32 = 50;

/// This one confirms nothing any more, so what it helped to acknowledge is before the log's end of now.
async fn wait_until_others_have_all(client: &Client, own: u64) -> anyhow::Result<()> {
    let end = client.masters().await?.last_index;
    for _ in 0..LOOKS_MAX {
        if others_have(&client.masters().await?, own, end) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!(
        "no majority of the masters is known to have all entries without this one: what it has set aside could be the only copy of \
         something; wait until `forebay masters list` shows the others to have them, or add --force if this one cannot be started any more"
    );
}

/// Whether a majority of the group has everything up to `end`, without that one.
fn others_have(group: &MasterGroup, own: u64, end: u64) -> bool {
    let voters = group.masters.iter().filter(|master| master.votes);
    let have = voters.clone().filter(|master| master.id != own && master.matched_index.is_some_and(|at| at >= end));
    have.count() * 2 > voters.count()
}

fn print(group: &MasterGroup, seen: &MastersSeen) {
    output::line(format_args!(
        "masters ({}), term {}, last entry {}, cluster version {}",
        group.masters.len(),
        group.term,
        group.last_index,
        group.cluster_version.max(1)
    ));
    if !group.doubt.is_empty() {
        output::line(format_args!("as {} saw it last: {}", group.seen_by, group.doubt));
        if let Some(trouble) = seen.trouble() {
            output::line(trouble.message());
            output::line(trouble.hint());
        }
    }
    // Who leads for certain knows of the others; else each was asked.
    let asked = |master: &MasterMember| match seen.of(&master.address).filter(|_| !group.doubt.is_empty()) {
        Some(one) => match &one.answer {
            MasterAnswer::Says(_) => ", answers".to_owned(),
            MasterAnswer::Silent(why) => format!(", does not answer: {why}"),
        },
        None => String::new(),
    };
    group.masters.iter().for_each(|master| output::line(line_of(master) + &asked(master)));
    if let Some(newest) = in_reach(group) {
        output::line(format_args!(
            "all masters know cluster version {newest}; when no older release is to be gone back to: forebay masters upgrade"
        ));
    }
}

/// The newest version that any master knows, if all know it and it is newer than the cluster's.
fn in_reach(group: &MasterGroup) -> Option<u32> {
    let known: Option<Vec<(u32, u32)>> = group.masters.iter().map(|master| master.versions).collect();
    let known = known?;
    let newest = known.iter().map(|(_, newest)| *newest).max()?;
    let all = known.iter().all(|(oldest, last)| (*oldest..=*last).contains(&newest));
    (all && newest > group.cluster_version.max(1)).then_some(newest)
}

fn line_of(master: &MasterMember) -> String {
    let role = match (master.leader, master.votes) {
        (true, _) => "leader",
        (false, true) => "follower",
        (false, false) => "on its way in",
    };
    let matched = master.matched_index.map_or("nothing known".to_owned(), |index| format!("has entry {index}"));
    let silent = master.silent_ms.map(|ms| format!(", heard {ms} ms ago")).unwrap_or_default();
    let trouble = if master.trouble.is_empty() { String::new() } else { format!(", {}", master.trouble) };
    let release = match master.versions {
        Some((oldest, newest)) if oldest == newest => {
            format!(", release {} (cluster version {newest})", master.release)
        }
        Some((oldest, newest)) => format!(", release {} (cluster versions {oldest} to {newest})", master.release),
        None => String::new(),
    };
    format!("  {} {role}, {matched}{silent}{release}{trouble}", master.address)
}

fn to_json(group: &MasterGroup, seen: &MastersSeen) -> Value {
    let answers = |master: &MasterMember| seen.answers(&master.address).filter(|_| !group.doubt.is_empty());
    json!({
        "term": group.term,
        "last_index": group.last_index,
        "flushed_index": group.flushed_index,
        "seen_by": group.seen_by,
        "doubt": group.doubt,
        "trouble": seen.trouble().map(|trouble| trouble.message().to_owned()).unwrap_or_default(),
        "cluster_version": group.cluster_version,
        "masters": group.masters.iter().map(|m| json!({
            "id": m.id, "address": m.address, "leader": m.leader, "votes": m.votes,
            "matched_index": m.matched_index, "silent_ms": m.silent_ms, "trouble": m.trouble, "release": m.release, "answers": answers(m),
            "version_oldest": m.versions.map(|(oldest, _)| oldest), "version_newest": m.versions.map(|(_, newest)| newest),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_damaged_one_and_one_other_have_is_not_all() {
        let master = |id, matched_index| MasterMember {
            id,
            address: format!("m{id}:7400"),
            leader: id == 1,
            votes: id < 9,
            matched_index,
            silent_ms: None,
            trouble: String::new(),
            release: "1.0".to_owned(),
            versions: Some((1, 2)),
        };
        let group = |second, third, fourth| MasterGroup {
            masters: vec![master(1, Some(100)), master(2, second), master(3, third), master(9, fourth)],
            term: 1,
            last_index: 100,
            flushed_index: 0,
            seen_by: String::new(),
            doubt: String::new(),
            cluster_version: 1,
        };
        // The third one is damaged; the leader and the second one are two of three.
        assert!(others_have(&group(Some(100), Some(100), None), 3, 100));
        assert!(!others_have(&group(Some(99), Some(100), None), 3, 100));
        assert!(!others_have(&group(None, Some(100), None), 3, 100));
        // One without a vote does not count.
        assert!(!others_have(&group(None, Some(100), Some(100)), 3, 100));
    }
}
