//! Programs of both releases that change and read files all the time. Each has a directory of its own and knows what has to be in it.

use super::command;
use crate::common::DEADLINE;
use anyhow::{Context, Result, bail, ensure};
use forebay_client::{
    Client, ClientConfig, CreateOptions, Deadlines, DeleteOptions, MakeDirectoryOptions, RenameOptions,
};
use forebay_testkit::wait;
use futures::TryStreamExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinHandle;

/// Files that one writer has at most.
const FILES_MAX: u64 = 24;

/// What the writers share.
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    last: Mutex<Instant>,
    /// The longest time in which no writer got an answer, pauses left out.
    longest: Mutex<Duration>,
    /// Held for each change; whoever writes it has them wait.
    pause: Arc<RwLock<()>>,
}

/// Writers at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Result<u64>>>,
}

/// No change is under way as long as it lives.
pub(super) struct Paused {
    shared: Arc<Shared>,
    _pause: OwnedRwLockWriteGuard<()>,
}

impl Drop for Paused {
    fn drop(&mut self) {
        *self.shared.last.lock() = Instant::now();
    }
}

impl Load {
    /// Three writers in this process, by the library of this release, and one that runs commands of the release before.
    pub(super) async fn start(masters: &str, before: &Path) -> Result<Load> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
            longest: Mutex::default(),
            pause: Arc::default(),
        });
        let mut writers = Vec::new();
        for name in ["a", "b", "c"] {
            let deadlines =
                Deadlines { connect: DEADLINE, metadata: DEADLINE, write: DEADLINE, ..Deadlines::default() };
            let config = ClientConfig { deadlines, ..ClientConfig::new(masters.split(',')) };
            let way = Way::Library(Client::connect(config).await?);
            writers.push(tokio::spawn(Writer::new(name, way, shared.clone()).run()));
        }
        let way = Way::Commands { program: before.to_owned(), masters: masters.to_owned() };
        writers.push(tokio::spawn(Writer::new("commands", way, shared.clone()).run()));
        Ok(Load { shared, writers })
    }

    /// Waits until so many more changes are answered.
    pub(super) async fn more(&mut self, count: u64) -> Result<()> {
        let enough = self.shared.done.load(Ordering::Relaxed) + count;
        let reached = wait::until("load", DEADLINE, || async {
            self.shared.done.load(Ordering::Relaxed) >= enough || self.writers.iter().any(JoinHandle::is_finished)
        });
        reached.await?;
        if let Some(at) = self.writers.iter().position(JoinHandle::is_finished) {
            let ended = self.writers.swap_remove(at).await?;
            bail!("a writer ended early: {ended:?}");
        }
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(super) async fn pause(&self) -> Paused {
        let pause = self.shared.pause.clone().write_owned().await;
        Paused { shared: self.shared.clone(), _pause: pause }
    }

    pub(super) fn longest(&self) -> Duration {
        *self.shared.longest.lock()
    }

    /// Ends it; each writer looks once more at all that it has.
    pub(super) async fn stop(self) -> Result<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for writer in self.writers {
            counts.push(writer.await??);
        }
        Ok(format!("changes of each writer: {counts:?}"))
    }
}

/// How a writer does things.
enum Way {
    Library(Client),
    Commands { program: PathBuf, masters: String },
}

/// Changes and reads the files of one directory, of which it knows what has to be in them.
struct Writer {
    name: &'static str,
    way: Way,
    shared: Arc<Shared>,
    files: BTreeMap<u64, String>,
}

impl Writer {
    fn new(name: &'static str, way: Way, shared: Arc<Shared>) -> Writer {
        Writer { name, way, shared, files: BTreeMap::new() }
    }

    async fn run(mut self) -> Result<u64> {
        let directory = format!("/lake/{}", self.name);
        self.way.make_directory(&directory).await?;
        let mut count = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let pause = self.shared.pause.clone();
            let _held = pause.read_owned().await;
            self.step(count).await.with_context(|| format!("step {count} of {}", self.name))?;
            self.answered();
            count += 1;
        }
        self.check_all().await?;
        Ok(count)
    }

    fn answered(&self) {
        let before = std::mem::replace(&mut *self.shared.last.lock(), Instant::now());
        let mut longest = self.shared.longest.lock();
        *longest = longest.max(before.elapsed());
        self.shared.done.fetch_add(1, Ordering::Relaxed);
    }

    fn path(&self, number: u64) -> String {
        format!("/lake/{}/{number:06}", self.name)
    }

    /// Makes a file, and then one more thing with another one.
    async fn step(&mut self, count: u64) -> Result<()> {
        let content = format!("{} {count} ", self.name).repeat(1 + (count as usize * 37) % 500);
        self.way.write(&self.path(count), &content).await?;
        self.files.insert(count, content);
        let Some(oldest) = self.files.keys().next().copied() else { return Ok(()) };
        match count % 4 {
            0 => {
                let (from, to) = (self.path(oldest), self.path(oldest + 500_000));
                self.way.rename(&from, &to).await?;
                let content = self.files.remove(&oldest).context("it is there")?;
                self.files.insert(oldest + 500_000, content);
            }
            1 => {
                let found = self.way.read(&self.path(oldest)).await?;
                ensure!(found == self.files[&oldest], "{} has {} other bytes", self.path(oldest), found.len());
            }
            _ => {}
        }
        while self.files.len() as u64 > FILES_MAX {
            let (gone, _) = self.files.pop_first().context("there are some")?;
            self.way.delete(&self.path(gone)).await?;
        }
        Ok(())
    }

    async fn check_all(&self) -> Result<()> {
        let names = self.way.list(&format!("/lake/{}", self.name)).await?;
        let wanted: Vec<String> = self.files.keys().map(|number| format!("{number:06}")).collect();
        ensure!(names == wanted, "{} has {names:?} instead of {wanted:?}", self.name);
        for (number, content) in &self.files {
            ensure!(self.way.read(&self.path(*number)).await? == *content, "{} has other bytes", self.path(*number));
        }
        Ok(())
    }
}

impl Way {
    async fn make_directory(&self, path: &str) -> Result<()> {
        match self {
            Way::Library(client) => drop(client.make_directory(path, MakeDirectoryOptions::default()).await?),
            Way::Commands { .. } => drop(self.run(&["fs", "mkdir", path]).await?),
        }
        Ok(())
    }

    async fn write(&self, path: &str, content: &str) -> Result<()> {
        match self {
            Way::Library(client) => {
                let mut file = client.create(path, CreateOptions::default()).await?;
                file.write(content.to_owned()).await?;
                file.close().await?;
            }
            Way::Commands { .. } => {
                let file = tempfile::NamedTempFile::new()?;
                std::fs::write(file.path(), content)?;
                self.run(&["fs", "cp", &format!("file:{}", file.path().display()), path]).await?;
            }
        }
        Ok(())
    }

    async fn read(&self, path: &str) -> Result<String> {
        match self {
            Way::Library(client) => {
                let file = client.open(path).await?;
                let bytes = file.read_at(0, file.len() as usize).await?;
                Ok(String::from_utf8(bytes.to_vec())?)
            }
            Way::Commands { .. } => self.run(&["fs", "cat", path]).await,
        }
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        match self {
            Way::Library(client) => client.rename(from, to, RenameOptions::default()).await?,
            Way::Commands { .. } => drop(self.run(&["fs", "mv", from, to]).await?),
        }
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self {
            Way::Library(client) => client.delete(path, DeleteOptions::default()).await?,
            Way::Commands { .. } => drop(self.run(&["fs", "rm", path]).await?),
        }
        Ok(())
    }

    /// The names in a directory, in order.
    async fn list(&self, path: &str) -> Result<Vec<String>> {
        match self {
            Way::Library(client) => {
                let entries: Vec<_> = client.list(path)?.try_collect().await?;
                Ok(entries.iter().filter_map(|entry| entry.name()).map(|name| name.to_string()).collect())
            }
            Way::Commands { .. } => Ok(self.run(&["fs", "ls", path]).await?.lines().map(str::to_owned).collect()),
        }
    }

    /// Runs a command, which rides out a fail-over by itself.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let Way::Commands { program, masters } = self else { bail!("no commands") };
        let output = command(program, masters, arguments).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {}: {told}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}
