//! What copying and moving do with one source after another: walk it, make its directories, copy its files side by side.

use super::{
    one::{self, Preserve},
    remove,
    source::{Item, Links, Source},
    target::Target,
};
use crate::cli::{failure::Failures, output, progress::Progress};
use anyhow::Context;
use forebay_base::{ByteSize, ErrorKind, FileId};
use forebay_client::{Client, Error, RenameOptions};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Directories of a moved tree that are removed at its end, at most: what is known of them is kept in memory until then.
const DIRECTORIES_MAX: usize = 1_000_000;

/// What is done with each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::fs) enum Act {
    Copy,
    /// Copied, then removed at its source.
    Move,
    /// Renamed, file by file: source and target lie in one mount.
    Rename,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Act::Copy => "copy",
            Act::Move | Act::Rename => "move",
        })
    }
}

/// What the user chose.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::fs) struct How {
    pub(in crate::cli::fs) act: Act,
    pub(in crate::cli::fs) recursive: bool,
    pub(in crate::cli::fs) parallel: usize,
    pub(in crate::cli::fs) options: one::Options,
}

/// What has been done so far.
#[derive(Default)]
pub(in crate::cli::fs) struct Totals {
    files: AtomicU64,
    skipped: AtomicU64,
    bytes: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy)]
pub(in crate::cli::fs) struct Done {
    pub(in crate::cli::fs) files: u64,
    pub(in crate::cli::fs) skipped: u64,
    pub(in crate::cli::fs) bytes: u64,
}

impl Totals {
    pub(in crate::cli::fs) fn done(&self) -> Done {
        Done { files: self.files.load(Relaxed), skipped: self.skipped.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    pub(in crate::cli::fs) fn json(&self) -> Value {
        let Done { files, skipped, bytes } = self.done();
        json!({ "files": files, "skipped": skipped, "bytes": bytes })
    }

    pub(in crate::cli::fs) fn text(&self, done: &str) -> String {
        let Done { files, skipped, bytes } = self.done();
        let left = if skipped == 0 { String::new() } else { format!(", {skipped} left alone") };
        format!("{}, {} {done}{left}", output::files(files), ByteSize(bytes))
    }
}

/// One command's work.
pub(in crate::cli::fs) struct Job<'a> {
    pub(in crate::cli::fs) client: &'a Client,
    pub(in crate::cli::fs) how: How,
    pub(in crate::cli::fs) progress: Progress,
    pub(in crate::cli::fs) totals: Totals,
    pub(in crate::cli::fs) failures: Failures,
}

/// What is remembered of one source while it is walked.
#[derive(Default)]
struct Trail {
    /// A directory that could not be made: what lies in it is passed over.
    refused: Mutex<Option<Vec<u8>>>,
    /// Directories to remove, each before those in it.
    directories: Mutex<Vec<(Source, Option<FileId>)>>,
}

impl<'a> Job<'a> {
    pub(in crate::cli::fs) fn new(client: &'a Client, how: How, progress: Progress, failures: Failures) -> Job<'a> {
        Job { client, how, progress, totals: Totals::default(), failures }
    }

    /// Copies or moves a source. What fails for one file is told, and the others follow all the same.
    pub(in crate::cli::fs) async fn run(&self, source: &Source, root: &Target) -> anyhow::Result<()> {
        let trail = Trail::default();
        let told_before = self.failures.count();
        let links = if self.how.act == Act::Copy { Links::All } else { Links::ToFiles };
        // Directories are made in order, one after another, before what lies in them; files follow side by side.
        source
            .items(self.client, links)
            .then(|item| self.prepare(item, root, &trail))
            .try_filter_map(|item| async move { Ok(item) })
            .try_for_each_concurrent(self.how.parallel, |(item, target)| async move {
                self.failures.take_of_many(self.one(&item, &target).await).map(drop)
            })
            .await?;
        self.remove_directories(trail, told_before).await
    }

    /// A file that is to be copied, and where to. Directories are made here; what lies in one that could not be is passed over.
    async fn prepare(
        &self,
        item: anyhow::Result<Item>,
        root: &Target,
        trail: &Trail,
    ) -> anyhow::Result<Option<(Item, Target)>> {
        let Some(item) = self.failures.take_of_many(item)? else { return Ok(None) };
        let is_refused = |path: &Vec<u8>| item.is_below(path);
        if trail.refused.lock().expect("no panic while the lock is held").as_ref().is_some_and(is_refused) {
            return Ok(None);
        }
        match self.make_room(&item, root, trail).await {
            Ok(target) => Ok(target.map(|target| (item, target))),
            Err(error) if item.below.is_empty() => Err(error),
            Err(error) => {
                if item.is_directory {
                    *trail.refused.lock().expect("no panic while the lock is held") = Some(item.below);
                }
                self.failures.take_of_many(Err(error)).map(|_: Option<()>| None)
            }
        }
    }

    /// The target of a file. A directory is made at once.
    async fn make_room(&self, item: &Item, root: &Target, trail: &Trail) -> anyhow::Result<Option<Target>> {
        let act = self.how.act;
        let target = root.join(&item.below).with_context(|| format!("cannot {act} {}", item.from))?;
        if item.is_directory {
            if !self.how.recursive {
                let message = format!("{} is a directory: use --recursive", item.from);
                return Err(Error::new(ErrorKind::InvalidArgument, message).into());
            }
            let kept = (self.how.options.preserve == Preserve::All).then_some(&item.attributes);
            target.make_directory(self.client, kept).await?;
            if act != Act::Copy {
                trail.note(item)?;
            }
            return Ok(None);
        }
        if item.below.is_empty() {
            target.ensure_names_a_file()?;
        } else if item.unfinished {
            return self.leave_out(item).map(|()| None);
        }
        self.progress.expect(item.length);
        Ok(Some(target))
    }

    /// A file of a tree that somebody still writes. A copy goes without it; a move is not whole then.
    fn leave_out(&self, item: &Item) -> anyhow::Result<()> {
        let from = &item.from;
        if self.how.act != Act::Copy {
            return Err(Error::new(ErrorKind::Conflict, format!("{from} is being written: it stays")).into());
        }
        eprintln!("note: {from} is being written and left out: it has no content yet");
        self.totals.skipped.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn one(&self, item: &Item, target: &Target) -> anyhow::Result<()> {
        self.progress.at(target);
        let act = self.how.act;
        let name = || format!("cannot {act} {} to {target}", item.from);
        let done = match (&item.from, target, act) {
            (Source::Tree(from), Target::Tree { path: to, .. }, Act::Rename) => {
                let options = RenameOptions { no_replace: self.how.options.no_clobber };
                self.client.rename(from, to, options).await.with_context(name)?;
                self.progress.done(item.length);
                Some(item.length)
            }
            _ => self.copy(item, target).await?,
        };
        match done {
            Some(bytes) => {
                self.totals.files.fetch_add(1, Relaxed);
                self.totals.bytes.fetch_add(bytes, Relaxed);
            }
            None if act == Act::Copy => {
                self.totals.skipped.fetch_add(1, Relaxed);
            }
            None => {
                let message = format!("{target} exists already: {} stays", item.from);
                return Err(Error::new(ErrorKind::AlreadyExists, message).into());
            }
        }
        Ok(())
    }

    /// The bytes that were copied; none when the target was left alone. What is moved is removed once the target has it.
    async fn copy(&self, item: &Item, target: &Target) -> anyhow::Result<Option<u64>> {
        let copied = one::copy(self.client, &item.from, target, self.how.options, |bytes| self.progress.done(bytes))
            .await
            .with_context(|| format!("cannot {} {} to {target}", self.how.act, item.from))?;
        let Some(copied) = copied else { return Ok(None) };
        if self.how.act == Act::Move {
            remove::file(self.client, &item.from, &copied.version).await?;
        }
        Ok(Some(copied.bytes))
    }

    /// Removes the directories of a source that was moved. Those from which something could not be moved stay, which has been told.
    async fn remove_directories(&self, trail: Trail, told_before: u64) -> anyhow::Result<()> {
        let whole = self.failures.count() == told_before;
        let directories = trail.directories.into_inner().expect("no panic while the lock is held");
        for (directory, id) in directories.into_iter().rev() {
            match remove::directory(self.client, &directory, id).await {
                Err(error) if !whole && remove::is_not_empty(&error) => {}
                result => drop(self.failures.take_of_many(result)?),
            }
        }
        Ok(())
    }
}

impl Trail {
    fn note(&self, item: &Item) -> anyhow::Result<()> {
        let mut directories = self.directories.lock().expect("no panic while the lock is held");
        anyhow::ensure!(
            directories.len() < DIRECTORIES_MAX,
            "{} stays: more than {DIRECTORIES_MAX} directories are not moved at once; move it by itself",
            item.from
        );
        directories.push((item.from.clone(), item.id));
        Ok(())
    }
}
