//! A file system that loses what was not synced when [`LossyFs::power_cut`] is called: the program `forebay-lossyfs`, whose own page says
//! what it promises and what a power cut leaves.
//!
//! Mounted by root it is seen by those processes alone that were started through [`LossyFs::program`], and goes with this process however
//! that ends.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process;

/// The program, and the variable that may name it.
const PROGRAM: &str = "forebay-lossyfs";
const VARIABLE: &str = "FOREBAY_LOSSYFS_BIN";

/// How long a process takes at most from its beginning until it runs its program.
const FORKS_END: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// A mounted file system that loses what was not synced.
#[derive(Debug)]
pub struct LossyFs {
    server: Mutex<Server>,
    /// The process that has the mount, if others do not see it.
    private: Option<u32>,
    /// The mount point lies in it; removed after the server has ended.
    dir: TempDir,
}

/// The process, and where it takes orders.
#[derive(Debug)]
struct Server {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of names.
    pub names: u64,
    /// Files whose bytes are not what they were.
    pub files: u64,
}

impl LossyFs {
    /// Mounts an empty one. The error says what is missing where that cannot be.
    pub fn mount() -> Result<LossyFs> {
        let dir = tempfile::Builder::new().prefix("forebay-lossy-").tempdir().context("making a directory")?;
        let point = dir.path().join("fs");
        std::fs::create_dir(&point)?;
        let mut server = Server::start(&point)?;
        let private = match server.answer()?.as_slice() {
            [1] => Some(server.process.id()),
            _ => None,
        };
        Ok(LossyFs { server: Mutex::new(server), private, dir })
    }

    /// Where processes find it that were started through [`LossyFs::program`].
    pub fn point(&self) -> PathBuf {
        self.dir.path().join("fs")
    }

    /// Where this process finds it.
    pub fn path(&self) -> PathBuf {
        let point = self.point();
        match (self.private, point.strip_prefix("/")) {
            (Some(pid), Ok(inside)) => PathBuf::from(format!("/proc/{pid}/root")).join(inside),
            _ => point,
        }
    }

    /// What to run in place of `program` so that it sees the file system. It becomes the program: its process id is the program's.
    pub fn program(&self, program: &Path) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let Some(pid) = self.private else { return Ok(program.to_owned()) };
        let script = self.dir.path().join(program.file_name().context("a program has a name")?);
        let program = program.to_str().filter(|path| !path.contains('\'')).context("a path that a shell can take")?;
        // The working directory is entered anew: as it was open before, it lies outside of the namespace.
        let text = format!(
            "#!/bin/sh\nexec nsenter --mount=/proc/{pid}/ns/mnt sh -c 'cd \"$0\" && exec \"$@\"' \"$PWD\" '{program}' \"$@\"\n"
        );
        std::fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).context("making it executable")?;
        Ok(script)
    }

    /// Cuts the power: what was not synced is there or not, as follows from the seed. Whoever has a file open has to be gone before. A disk
    /// that was [unplugged](LossyFs::unplug_after) is there again.
    pub fn power_cut(&self, seed: u64) -> Result<Lost> {
        self.lose(&format!("cut {seed}"))
    }

    /// As [`LossyFs::power_cut`], and nothing survives that was not synced.
    pub fn lose_all_unsynced(&self) -> Result<Lost> {
        self.lose("lose")
    }

    /// Changes and syncs that processes have asked for so far.
    pub fn changes(&self) -> Result<u64> {
        self.ask("changes")?.first().copied().context("a number of changes")
    }

    /// After so many more changes and syncs the disk is gone: all further ones fail with EIO, until the power is cut. So a power cut can
    /// come at each moment of what a process does alone.
    pub fn unplug_after(&self, changes: u64) -> Result<()> {
        self.ask(&format!("unplug {changes}")).map(drop)
    }

    /// Whether the disk is gone.
    pub fn is_unplugged(&self) -> Result<bool> {
        Ok(self.ask("unplugged")? == [1])
    }

    fn lose(&self, order: &str) -> Result<Lost> {
        let deadline = Instant::now() + FORKS_END;
        loop {
            match self.ask(order) {
                // A process that another thread is just starting has copies of all descriptors until it runs its program.
                Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::sleep(BETWEEN_TRIES),
                answer => match answer?.as_slice() {
                    [names, files] => return Ok(Lost { names: *names, files: *files }),
                    other => bail!("a power cut was answered by {other:?}"),
                },
            }
        }
    }

    fn ask(&self, order: &str) -> Result<Vec<u64>> {
        let mut server = self.server.lock().expect("nobody panics while asking");
        let orders = server.orders.as_mut().context("the file system is there until it is dropped")?;
        writeln!(orders, "{order}").context("the file system's process is gone")?;
        server.answer().with_context(|| format!("asking the file system to {order}"))
    }
}

/// What the file system says while somebody has a file open.
fn is_busy(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains(&std::io::Error::from_raw_os_error(libc::EBUSY).to_string())
}

impl Server {
    fn start(point: &Path) -> Result<Server> {
        let mut command = Command::new(program()?);
        command.arg(point).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {PROGRAM}"))?;
        let (orders, answers) = (process.stdin.take(), process.stdout.take().context("its output is a pipe")?);
        Ok(Server { process, orders, answers: BufReader::new(answers) })
    }

    fn answer(&mut self) -> Result<Vec<u64>> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("reading an answer")?;
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match word {
            "ok" => rest.split_whitespace().map(|number| Ok(number.parse()?)).collect(),
            "error" => bail!("{rest}"),
            _ => bail!("the file system's process has ended"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when it is told nothing more, and says itself what went wrong.
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

/// Where the variable says, else beside the programs that this one was built with.
fn program() -> Result<PathBuf> {
    let beside = || -> Option<PathBuf> {
        let own = std::env::current_exe().ok()?;
        own.ancestors().skip(1).take(2).map(|dir| dir.join(PROGRAM)).find(|path| path.is_file())
    };
    let found = process::find_program(VARIABLE, PROGRAM).or_else(beside);
    found.with_context(|| format!("there is no {PROGRAM}: cargo build --package {PROGRAM}, or {VARIABLE}"))
}
