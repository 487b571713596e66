//! What all clients change at once. Who wins is open; what is told to them fits together:
//! - **tokens**, directories with an owner of their own, go from hands into slots and from slots into hands by renames: each is in
//!   one place;
//! - **races**: directories that all make and delete: as many were made as deleted, or one more;
//! - **marks**: each client sets an extended attribute of its own on one directory;
//! - **files** that all overwrite: what is there is not older than what was acknowledged before something else was begun.

use super::{is_kind, mark_of, read_whole};
use anyhow::{Context, Result, bail, ensure};
use forebay_client::{
    AttributeChanges, Client, CreateOptions, DeleteOptions, Entry, ErrorKind, MakeDirectoryOptions, RenameOptions,
    StatOptions, Xattr,
};
use futures::TryStreamExt;
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: u64 = 6;
const RACES: u64 = 3;
const FILES: u64 = 2;
/// Tokens that a client makes.
const TOKENS_MAX: usize = 20;

pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serial: u64,
    hands: Vec<Hand>,
    /// All that were made for sure, and those that may have been.
    tokens: BTreeSet<String>,
    maybe_tokens: BTreeSet<String>,
    races: BTreeMap<String, Race>,
    files: BTreeMap<String, Vec<Write>>,
    moves: u64,
    wins: u64,
    writes: u64,
}

/// What one client holds.
#[derive(Default)]
struct Hand {
    names: BTreeSet<String>,
    /// Names that an unanswered request may have taken away or brought.
    open: BTreeSet<String>,
    minted: usize,
    mark: u64,
    /// The mark that is being set.
    next_mark: u64,
}

#[derive(Default)]
struct Race {
    /// Made and not deleted, by the answers.
    balance: i64,
    maybe_made: i64,
    maybe_deleted: i64,
}

struct Write {
    content: String,
    begun: u64,
    /// When it was answered, and whether it was acknowledged; `u64::MAX` while it is under way.
    ended: u64,
    acknowledged: bool,
}

impl Shared {
    pub(super) async fn make(client: &Client, clients: usize) -> Result<Shared> {
        let options = || MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
        for path in ["/shared/slots", "/shared/races", "/shared/marks", "/disk/shared"] {
            client.make_directory(path, options()).await?;
        }
        for index in 0..clients {
            client.make_directory(hand(index).as_str(), options()).await?;
        }
        let hands = (0..clients).map(|_| Hand::default()).collect();
        Ok(Shared { state: Mutex::new(State { hands, ..State::default() }) })
    }

    pub(super) fn summary(&self) -> String {
        let state = self.state.lock();
        let tokens = state.tokens.len();
        format!("{tokens} tokens in {} moves, {} races won, {} shared writes", state.moves, state.wins, state.writes)
    }

    pub(super) async fn step(&self, index: usize, client: &Client, random: &Mutex<StdRng>) -> Result<()> {
        let (dice, slot, race, file) = {
            let mut random = random.lock();
            let mut below = |end| random.random_range(0..end);
            (below(100), below(SLOTS), below(RACES), below(FILES))
        };
        match dice {
            0..20 => self.mint(index, client).await,
            20..40 => self.put(index, client, &format!("/shared/slots/{slot}")).await,
            40..55 => self.take(index, client, &format!("/shared/slots/{slot}")).await,
            55..80 => self.race(client, &format!("/shared/races/{race}"), dice < 67).await,
            80..90 => self.mark(index, client).await,
            _ => self.write(index, client, &format!("/disk/shared/{file}")).await,
        }
    }

    async fn mint(&self, index: usize, client: &Client) -> Result<()> {
        let (name, owner) = {
            let mut state = self.state.lock();
            if state.hands[index].minted == TOKENS_MAX {
                return Ok(());
            }
            let serial = state.tick();
            state.hands[index].minted += 1;
            let (name, owner) = (format!("t{serial}"), format!("token-{serial}"));
            state.maybe_tokens.insert(owner.clone());
            state.hands[index].open.insert(name.clone());
            (name, owner)
        };
        let options = MakeDirectoryOptions { owner: owner.clone(), ..MakeDirectoryOptions::default() };
        client.make_directory(format!("{}/{name}", hand(index)).as_str(), options).await?;
        let mut state = self.state.lock();
        state.maybe_tokens.remove(&owner);
        state.tokens.insert(owner);
        state.hands[index].open.remove(&name);
        state.hands[index].names.insert(name);
        Ok(())
    }

    async fn put(&self, index: usize, client: &Client, slot: &str) -> Result<()> {
        let name = {
            let mut state = self.state.lock();
            let Some(name) = state.hands[index].names.pop_first() else { return Ok(()) };
            state.hands[index].open.insert(name.clone());
            name
        };
        let from = format!("{}/{name}", hand(index));
        let outcome = client.rename(from.as_str(), slot, RenameOptions { no_replace: true }).await;
        let mut state = self.state.lock();
        state.hands[index].open.remove(&name);
        match outcome {
            Ok(()) => state.moves += 1,
            Err(error) if is_kind(&error, &[ErrorKind::AlreadyExists]) => {
                state.hands[index].names.insert(name);
            }
            Err(error) => bail!("{from} into {slot}: {error}"),
        }
        Ok(())
    }

    async fn take(&self, index: usize, client: &Client, slot: &str) -> Result<()> {
        let name = {
            let mut state = self.state.lock();
            let name = format!("h{}", state.tick());
            state.hands[index].open.insert(name.clone());
            name
        };
        let to = format!("{}/{name}", hand(index));
        let outcome = client.rename(slot, to.as_str(), RenameOptions { no_replace: true }).await;
        let mut state = self.state.lock();
        state.hands[index].open.remove(&name);
        match outcome {
            Ok(()) => {
                state.moves += 1;
                state.hands[index].names.insert(name);
            }
            Err(error) if is_kind(&error, &[ErrorKind::NotFound]) => {}
            Err(error) => bail!("{slot} into {to}: {error}"),
        }
        Ok(())
    }

    async fn race(&self, client: &Client, path: &str, make: bool) -> Result<()> {
        let change = |by: i64| {
            let mut state = self.state.lock();
            let race = state.races.entry(path.to_owned()).or_default();
            if make { race.maybe_made += by } else { race.maybe_deleted += by }
        };
        change(1);
        let outcome = match make {
            true => client.make_directory(path, MakeDirectoryOptions::default()).await.map(drop),
            false => client.delete(path, DeleteOptions::default()).await,
        };
        change(-1);
        match outcome {
            Ok(()) => {
                let mut state = self.state.lock();
                state.wins += 1;
                state.races.entry(path.to_owned()).or_default().balance += if make { 1 } else { -1 };
            }
            Err(error) if make && is_kind(&error, &[ErrorKind::AlreadyExists]) => {}
            Err(error) if !make && is_kind(&error, &[ErrorKind::NotFound]) => {}
            Err(error) => bail!("{path}, made: {make}: {error}"),
        }
        Ok(())
    }

    async fn mark(&self, index: usize, client: &Client) -> Result<()> {
        let mark = {
            let mut state = self.state.lock();
            let mark = state.tick();
            state.hands[index].next_mark = mark;
            mark
        };
        let xattr = Xattr { name: format!("client-{index}").into(), value: mark.to_string().into() };
        let changes = AttributeChanges { set_xattrs: vec![xattr], ..AttributeChanges::default() };
        client.set_attributes("/shared/marks", changes).await?;
        self.state.lock().hands[index].mark = mark;
        Ok(())
    }

    async fn write(&self, index: usize, client: &Client, path: &str) -> Result<()> {
        let (content, begun) = {
            let mut state = self.state.lock();
            let begun = state.tick();
            let content = format!("client {index} at {begun}\n").repeat(50);
            let write = Write { content: content.clone(), begun, ended: u64::MAX, acknowledged: false };
            state.files.entry(path.to_owned()).or_default().push(write);
            (content, begun)
        };
        let outcome = write(client, path, content).await;
        let mut state = self.state.lock();
        state.writes += 1;
        let ended = state.tick();
        let writes = state.files.get_mut(path).context("begun")?;
        let own = writes.iter_mut().find(|write| write.begun == begun).context("begun")?;
        (own.ended, own.acknowledged) = (ended, outcome.is_ok());
        match outcome {
            Ok(()) => Ok(()),
            // Another writer was there; `already_exists` when both make the file.
            Err(error) if is_kind(&error, &[ErrorKind::Conflict, ErrorKind::NotFound, ErrorKind::AlreadyExists]) => {
                Ok(())
            }
            Err(error) => bail!("writing {path}: {error}"),
        }
    }

    /// What is there after a restart, against what was told. Nobody changes anything meanwhile.
    pub(super) async fn compare(&self, client: &Client) -> Result<()> {
        self.compare_tokens(client).await?;
        self.compare_races(client).await?;
        self.compare_marks(client).await?;
        self.compare_files(client).await
    }

    async fn compare_tokens(&self, client: &Client) -> Result<()> {
        let slots = list(client, "/shared/slots").await?;
        let mut held = Vec::new();
        let hands = self.state.lock().hands.len();
        for index in 0..hands {
            held.push(list(client, &hand(index)).await?);
        }
        let mut state = self.state.lock();
        let mut seen = BTreeSet::new();
        for entry in held.iter().flatten().chain(&slots) {
            ensure!(
                seen.insert(entry.owner.clone()),
                "{} is twice in the tree, the second at {}",
                entry.owner,
                entry.path
            );
        }
        let lost: Vec<_> = state.tokens.difference(&seen).collect();
        ensure!(lost.is_empty(), "tokens were lost: {lost:?}");
        for token in seen {
            let known = state.tokens.contains(&token) || state.maybe_tokens.contains(&token);
            ensure!(known, "nobody made {token}");
            state.tokens.insert(token);
        }
        state.maybe_tokens.clear();
        for (index, (hand, entries)) in state.hands.iter_mut().zip(held).enumerate() {
            let found: BTreeSet<String> = entries.iter().filter_map(Entry::name).map(|name| name.to_string()).collect();
            let missing = hand.names.difference(&found).next();
            ensure!(missing.is_none(), "client {index} held {missing:?}");
            let extra = found.iter().find(|name| !hand.names.contains(*name) && !hand.open.contains(*name));
            ensure!(extra.is_none(), "client {index} did not take {extra:?}");
            hand.open.clear();
            hand.names = found;
        }
        Ok(())
    }

    async fn compare_races(&self, client: &Client) -> Result<()> {
        let found: Vec<String> =
            list(client, "/shared/races").await?.iter().map(|entry| entry.path.to_string()).collect();
        for (path, race) in &mut self.state.lock().races {
            let there = i64::from(found.contains(path));
            let range = race.balance - race.maybe_deleted..=race.balance + race.maybe_made;
            ensure!(range.contains(&there), "{path}: {there} there, by the answers {range:?}");
            *race = Race { balance: there, ..Race::default() };
        }
        Ok(())
    }

    async fn compare_marks(&self, client: &Client) -> Result<()> {
        let options = StatOptions { with_xattrs: true, ..StatOptions::default() };
        let entry = client.stat_with("/shared/marks", options).await?;
        for (index, hand) in self.state.lock().hands.iter_mut().enumerate() {
            let found = mark_of(&entry, &format!("client-{index}"));
            ensure!(found == hand.mark || found == hand.next_mark, "mark {found} of client {index}, not {}", hand.mark);
            hand.mark = found;
        }
        Ok(())
    }

    async fn compare_files(&self, client: &Client) -> Result<()> {
        let entries = list(client, "/disk/shared").await?;
        let paths: Vec<String> = self.state.lock().files.keys().cloned().collect();
        for path in paths {
            let entry = entries.iter().find(|entry| entry.path.to_string() == path);
            let content = match entry {
                Some(entry) if entry.complete => Some(String::from_utf8(read_whole(client, &path).await?)?),
                _ => None,
            };
            let mut state = self.state.lock();
            let now = state.tick();
            let writes = state.files.get_mut(&path).context("known")?;
            for write in writes.iter_mut().filter(|write| write.ended == u64::MAX) {
                write.ended = now;
            }
            let last_begun = writes.iter().filter(|write| write.acknowledged).map(|write| write.begun).max();
            writes.retain(|write| last_begun.is_none_or(|begun| write.ended >= begun));
            match content {
                None => ensure!(last_begun.is_none(), "{path} is not there, though a write of it was acknowledged"),
                Some(content) => {
                    let known = writes.iter().any(|write| write.content == content);
                    ensure!(known, "{path} holds {:?}, which something newer had replaced", content.lines().next());
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

fn hand(index: usize) -> String {
    format!("/hands/{index}")
}

async fn list(client: &Client, path: &str) -> Result<Vec<Entry>> {
    Ok(client.list(path)?.try_collect().await?)
}

async fn write(client: &Client, path: &str, content: String) -> forebay_client::Result<()> {
    let mut writer = client.create(path, CreateOptions { overwrite: true, ..CreateOptions::default() }).await?;
    writer.write(content.into_bytes()).await?;
    writer.close().await.map(drop)
}
