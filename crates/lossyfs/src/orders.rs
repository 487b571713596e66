//! What the test asks for, a line each, and the answers: `ok` with numbers, or `error` with the reason.
//!
//! - (at the start) → `ok 1` when others see the mount only through this process (`/proc/PID/root`, `/proc/PID/ns/mnt`), `ok 0` when all do
//! - `cut SEED` → `ok NAMES FILES`: the power is cut; so many changes of names were lost, so many files are not what they were. Whoever has
//!   a file open has to be gone before. A disk that was unplugged is there again.
//! - `lose` → as `cut`, and nothing survives that was not synced
//! - `changes` → `ok COUNT`: changes and syncs that were asked for so far
//! - `unplug COUNT` → `ok`: after so many more changes and syncs the disk is gone, and all further ones fail with EIO. So a power cut can
//!   come at each moment of what a process does alone.
//! - `unplugged` → `ok 1` when it is gone
//!
//! The end of the input ends the process.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use super::content::PAGE;
use super::door::{Door, Shared, lock};
use super::loss::Loss;
use super::mount::{self, Mount};
use super::tree::{Attributes, Lost, Tree};

/// More than this cannot be written: it lies in memory, twice at most.
const BYTES_MAX: u64 = 2 << 30;

struct Served<'a> {
    point: &'a Path,
    shared: Arc<Mutex<Shared>>,
    /// None after a mount that failed.
    mount: Option<Mount>,
}

/// Mounts at `point` and does what it is told until nobody tells it any more.
pub(super) fn serve(point: &Path) -> Result<()> {
    let is_private = mount::make_private()?;
    let mut served = Served::new(point);
    let mut answer = served.mount().map(|()| vec![u64::from(is_private)]);
    let mut lines = io::stdin().lines();
    loop {
        say(&answer)?;
        let Some(line) = lines.next() else { break };
        answer = served.obey(&line.context("reading orders")?);
    }
    match served.mount.take().map(Mount::end) {
        // With this process goes the namespace, and the mount with that.
        Some(Err(_)) if is_private => Ok(()),
        Some(Err((_, error))) => Err(error).context("unmounting"),
        Some(Ok(())) | None => Ok(()),
    }
}

fn say(answer: &Result<Vec<u64>>) -> Result<()> {
    let line = match answer {
        Ok(numbers) => numbers.iter().fold("ok".to_owned(), |line, number| format!("{line} {number}")),
        Err(error) => format!("error {error:#}"),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.replace('\n', " ")).and_then(|()| out.flush()).context("answering")
}

impl<'a> Served<'a> {
    fn new(point: &'a Path) -> Served<'a> {
        // SAFETY: both take nothing, touch no memory and cannot fail.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let root = Attributes { mode: 0o700, uid, gid, modified: SystemTime::now() };
        let shared = Shared { tree: Tree::new(root, BYTES_MAX / PAGE), changes: 0, unplug_at: None };
        Served { point, shared: Arc::new(Mutex::new(shared)), mount: None }
    }

    fn obey(&mut self, order: &str) -> Result<Vec<u64>> {
        let mut words = order.split_whitespace();
        let name = words.next().unwrap_or_default();
        let number = words.next().map(str::parse::<u64>).transpose().context("an order's number")?;
        match (name, number) {
            ("cut", Some(seed)) => self.lose(Loss::new(seed)),
            ("lose", None) => self.lose(Loss::of_everything()),
            ("changes", None) => Ok(vec![lock(&self.shared).changes]),
            ("unplug", Some(count)) => {
                let mut shared = lock(&self.shared);
                ensure!(!shared.is_unplugged(), "the disk is gone already");
                shared.unplug_at = Some(shared.changes + count);
                Ok(vec![])
            }
            ("unplugged", None) => Ok(vec![u64::from(lock(&self.shared).is_unplugged())]),
            _ => bail!("no such order: {order:?}"),
        }
    }

    /// Nothing of the kernel's memory may survive, so it is unmounted meanwhile.
    fn lose(&mut self, mut loss: Loss) -> Result<Vec<u64>> {
        let mount = self.mount.take().context("an earlier mount has failed")?;
        if let Err((mount, error)) = mount.end() {
            self.mount = Some(mount);
            return Err(error).context("cannot cut the power: somebody still uses the file system");
        }
        let Lost { names, files } = {
            let mut shared = lock(&self.shared);
            shared.unplug_at = None;
            shared.tree.lose(&mut loss)
        };
        self.mount()?;
        Ok(vec![names as u64, files as u64])
    }

    fn mount(&mut self) -> Result<()> {
        self.mount = Some(Mount::new(self.point, Door::new(self.shared.clone()))?);
        Ok(())
    }
}
