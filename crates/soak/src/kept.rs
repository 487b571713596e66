//! Clients that only add, and remember what was acknowledged: all of it must be there in the end, and nothing that nobody made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forebay_client::{Client, CreateOptions, Entry, ErrorKind, MakeDirectoryOptions};
use futures::TryStreamExt;
use tokio::time::Instant;

use crate::load::Load;

/// What may become of a file while masters are away or have wrong clocks: nobody answers, a worker takes no ticket whose time is far off, or the
/// lease ends since it cannot be renewed, which is told in one of two ways.
const FAILURES: [ErrorKind; 5] = [
    ErrorKind::Unavailable,
    ErrorKind::DeadlineExceeded,
    ErrorKind::PermissionDenied,
    ErrorKind::Conflict,
    ErrorKind::NotFound,
];

/// How long something can fail that was begun when all is well again.
const WELL_DEADLINE: Duration = Duration::from_secs(120);

/// What a keeper makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directories, by a client that waits for each.
    Directories,
    /// Files with a content of their own. One that fails is not acknowledged: a worker takes no ticket of a master whose clock is wrong.
    Files,
}

impl Kind {
    fn pause(self) -> Duration {
        match self {
            Kind::Directories => Duration::from_millis(10),
            Kind::Files => Duration::from_millis(50),
        }
    }
}

/// One client, and what it has made in its directory: names are numbers, counted up.
#[derive(Debug)]
pub struct Keeper {
    client: Client,
    directory: String,
    kind: Kind,
    next: u64,
    acknowledged: BTreeSet<u64>,
    /// What failed, and how, and may be there.
    failed: BTreeMap<u64, ErrorKind>,
}

impl Keeper {
    /// Makes its directory.
    pub async fn start(client: Client, directory: &str, kind: Kind) -> Result<Keeper> {
        client.make_directory(directory, MakeDirectoryOptions::default()).await?;
        let (acknowledged, failed) = (BTreeSet::new(), BTreeMap::new());
        Ok(Keeper { client, directory: directory.to_owned(), kind, next: 0, acknowledged, failed })
    }

    /// Adds until told to stop.
    pub async fn keep(mut self, load: Arc<Load>) -> Result<Keeper> {
        while !load.is_stopped() {
            if self.add().await? {
                load.pulse.beat();
            }
            tokio::time::sleep(self.kind.pause()).await;
        }
        Ok(self)
    }

    /// Adds one when nothing is broken any more: that is acknowledged in the end.
    pub async fn add_one(&mut self) -> Result<()> {
        let end = Instant::now() + WELL_DEADLINE;
        while !self.add().await? {
            ensure!(
                Instant::now() < end,
                "nothing can be added to {}: {:?}",
                self.directory,
                self.failed.last_key_value()
            );
            tokio::time::sleep(self.kind.pause()).await;
        }
        Ok(())
    }

    /// Whether the next one was acknowledged.
    async fn add(&mut self) -> Result<bool> {
        let number = self.next;
        self.next += 1;
        match self.make(number).await {
            Ok(()) => {
                self.acknowledged.insert(number);
                Ok(true)
            }
            Err(error) if self.kind == Kind::Files && FAILURES.contains(&error.kind()) => {
                self.failed.insert(number, error.kind());
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("{}: a client that waits was told", self.path(number))),
        }
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number}", self.directory)
    }

    fn content(&self, number: u64) -> String {
        format!("{} ", self.path(number)).repeat(1 + (number as usize * 37) % 500)
    }

    async fn make(&self, number: u64) -> forebay_client::Result<()> {
        let path = self.path(number);
        match self.kind {
            Kind::Directories => {
                self.client.make_directory(path.as_str(), MakeDirectoryOptions::default()).await.map(drop)
            }
            Kind::Files => {
                let mut file = self.client.create(path.as_str(), CreateOptions::default()).await?;
                file.write(self.content(number)).await?;
                file.close().await.map(drop)
            }
        }
    }

    /// What is to be said of it.
    pub fn summary(&self) -> String {
        let kind = match self.kind {
            Kind::Directories => "directories",
            Kind::Files => "files",
        };
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for reason in self.failed.values() {
            *reasons.entry(format!("{reason:?}")).or_default() += 1;
        }
        let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let failed = match self.failed.len() {
            0 => String::new(),
            failed => format!(" ({failed} more failed: {})", reasons.join(", ")),
        };
        format!("{} {kind}{failed}", self.acknowledged.len())
    }

    /// Whether another client finds all that was acknowledged, with its bytes, and nothing else. Of what failed a file may be there: whole, or
    /// not closed yet, and then without a byte.
    pub async fn check(&self, reader: &Client) -> Result<()> {
        ensure!(!self.acknowledged.is_empty(), "nothing was acknowledged in {}: {}", self.directory, self.summary());
        let entries: Vec<Entry> = reader.list(self.directory.as_str())?.try_collect().await?;
        let mut found = BTreeSet::new();
        let mut closed = BTreeSet::new();
        for entry in &entries {
            let name = entry.name().context("an entry has a name")?.to_string();
            let number = name.parse::<u64>().with_context(|| format!("nobody made {}/{name}", self.directory))?;
            found.insert(number);
            if entry.complete {
                closed.insert(number);
            }
            ensure!(
                entry.complete || entry.length == 0,
                "{} has {} bytes before it is closed",
                entry.path,
                entry.length
            );
        }
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        ensure!(lost.is_empty(), "acknowledged and not there in {}: {lost:?}", self.directory);
        let strange: Vec<_> =
            found.iter().filter(|n| !self.acknowledged.contains(n) && !self.failed.contains_key(n)).collect();
        ensure!(strange.is_empty(), "nobody made these in {}: {strange:?}", self.directory);
        if self.kind == Kind::Files {
            for number in self.acknowledged.union(&closed) {
                self.check_file(reader, *number).await?;
            }
        }
        Ok(())
    }

    async fn check_file(&self, reader: &Client, number: u64) -> Result<()> {
        let (path, expected) = (self.path(number), self.content(number));
        let file = reader.open(path.as_str()).await.with_context(|| format!("opening {path}"))?;
        ensure!(file.len() as usize == expected.len(), "{path} has {} bytes instead of {}", file.len(), expected.len());
        let bytes = file.read_at(0, expected.len()).await.with_context(|| format!("reading {path}"))?;
        ensure!(bytes == expected.as_bytes(), "{path} has other bytes");
        Ok(())
    }
}
