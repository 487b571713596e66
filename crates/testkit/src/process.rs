//! Child processes that cannot outlive the test: ended on drop, and by the kernel when this process dies.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::wait;

/// How much of a log is shown when a test panics.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// A thread in an uninterruptible wait stops when that is over.
const PAUSE_DEADLINE: Duration = Duration::from_secs(10);

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_owned();
        let child = spawn(command).with_context(|| format!("starting {name} ({})", program.display()))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), exit: None })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.len().saturating_sub(LOG_TAIL_BYTES);
        let start = (start..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
        log[start..].to_owned()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
        }
        Ok(self.exit)
    }

    /// Sends a signal (`libc::SIGTERM`, `SIGSTOP`, …); nothing happens when the process has ended.
    pub fn signal(&mut self, signal: libc::c_int) -> Result<()> {
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let pid = libc::pid_t::try_from(self.pid()).context("a process id fits in pid_t")?;
        // SAFETY: kill(2) touches no memory of ours. The pid is our child's and was not reaped (`exit` is
        // `None` and only `try_wait`/`wait` of this value reap it), so it names no other process.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()).with_context(|| format!("signalling {}", self.name)),
        }
    }

    /// SIGSTOP, and waits until every thread stands still: the signal is on its way when kill(2) returns, and a thread that
    /// runs may still answer a request.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(libc::SIGSTOP)?;
        let end = Instant::now() + PAUSE_DEADLINE;
        while !all_threads_stopped(self.pid()) {
            anyhow::ensure!(self.exit_status()?.is_none(), "{} ended instead of stopping", self.name);
            anyhow::ensure!(Instant::now() < end, "{} did not stop within {PAUSE_DEADLINE:?}", self.name);
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&mut self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// `kill -9`, and waits until it is gone. A stopped process dies too.
    pub fn kill(&mut self) -> Result<()> {
        if self.exit_status()?.is_none() {
            self.child.kill().with_context(|| format!("killing {}", self.name))?;
            self.exit = Some(self.child.wait()?);
            remove_shared_memory_of_faketime(self.child.id());
        }
        Ok(())
    }

    /// SIGTERM, then waits until it has ended by itself; kills it and fails when that takes longer than `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        let ended = self.wait(deadline).await;
        if ended.is_err() {
            self.kill()?;
        }
        ended
    }

    /// Waits until it has ended by itself.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::for_some(&what, deadline, || {
            let status = self.exit_status();
            async move { status.transpose() }
        })
        .await?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let status = self.exit_status().ok().flatten();
        if thread::panicking() {
            eprintln!("--- log of {} ({}):\n{}", self.name, describe(status), self.log_tail());
        }
        // Nothing is left to do about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// A process that is killed cannot tidy up after libfaketime, which it may have loaded.
fn remove_shared_memory_of_faketime(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// Reads the state of each thread, the letter behind the name in parentheses (proc_pid_stat(5)).
fn all_threads_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // A thread that ended between the listing and the look has no file any more, and does not run.
        stat.is_empty() || stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "running".to_owned(),
        Some(status) => match status.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => status.to_string(),
        },
    }
}

/// Finds a program: the variable first, then `PATH`.
pub fn find_program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(OsStr::new(name))).find(|file| file.is_file())
}

/// Starts a child from a thread that lives as long as this process.
///
/// The kernel sends the parent-death signal when the parent *thread* ends. A test's own thread, or one of a runtime's
/// blocking pool, may end while the child is still wanted.
fn spawn(mut command: Command) -> io::Result<Child> {
    // SAFETY: pid_t of this process; getpid cannot fail and touches no memory.
    let parent = unsafe { libc::getpid() };
    // SAFETY: between fork and exec the closure makes three async-signal-safe system calls and allocates nothing.
    // The parent may have died before prctl took effect; then the child was given to another parent and must not run.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let (answer, child) = mpsc::channel();
    spawner().send((command, answer)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
    child.recv().map_err(|_| io::Error::other("the spawning thread is gone"))?
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

fn spawner() -> mpsc::Sender<Order> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let start = || {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("testkit-spawner".to_owned())
            .spawn(move || {
                for (mut command, answer) in orders {
                    // The asker waits for the answer; if its thread panicked there is nobody to tell.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("one more thread can be started");
        sender
    };
    SPAWNER.get_or_init(start).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, dir: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command, &dir.join("log")).unwrap()
    }

    fn is_running(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_the_exit_code_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sh("echo out; echo err >&2; exit 3", dir.path());
        assert_eq!(process.wait(Duration::from_secs(10)).await.unwrap().code(), Some(3));
        assert_eq!(process.log(), "out\nerr\n");
        process.signal(libc::SIGTERM).unwrap();
    }

    #[tokio::test]
    async fn a_stopped_process_is_killed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sh("exec sleep 1000", dir.path());
        let pid = process.pid();
        process.signal(libc::SIGSTOP).unwrap();
        drop(process);
        assert!(!is_running(pid));
    }

    #[tokio::test]
    async fn terminate_asks_first_and_kills_when_that_does_not_help() {
        let dir = tempfile::tempdir().unwrap();
        let mut polite = sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", dir.path());
        wait::until("the trap", Duration::from_secs(10), || std::future::ready(polite.log().contains("ready")))
            .await
            .unwrap();
        assert_eq!(polite.terminate(Duration::from_secs(10)).await.unwrap().code(), Some(7));

        let mut stubborn = sh("trap '' TERM; echo stubborn; while :; do sleep 0.01; done", dir.path());
        wait::until("the trap", Duration::from_secs(10), || std::future::ready(stubborn.log().contains("stubborn")))
            .await
            .unwrap();
        assert!(stubborn.terminate(Duration::from_millis(100)).await.is_err());
        assert!(!is_running(stubborn.pid()));
    }

    /// The child outlives the thread that asked for it.
    #[tokio::test]
    async fn a_child_does_not_die_with_the_thread_that_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut process = thread::spawn(move || sh("sleep 0.2; echo alive", &path)).join().unwrap();
        assert!(process.wait(Duration::from_secs(10)).await.unwrap().success());
        assert_eq!(process.log(), "alive\n");
    }

    /// Set for the run of this test program that is to be killed: where it writes its child's pid.
    const VICTIM: &str = "TESTKIT_VICTIM";

    /// Not a test by itself: the process that the next test starts and kills.
    #[test]
    fn victim() {
        let Some(path) = std::env::var_os(VICTIM) else { return };
        let dir = tempfile::tempdir().unwrap();
        let child = sh("exec sleep 1000", dir.path());
        let path = PathBuf::from(path);
        fs::write(path.with_extension("new"), child.pid().to_string()).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        loop {
            thread::park();
        }
    }

    #[tokio::test]
    async fn a_child_dies_with_a_process_that_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::tests::victim", "--nocapture"]).env(VICTIM, &path).env("TMPDIR", dir.path());
        let mut parent = Process::start("victim", command, &dir.path().join("log")).unwrap();
        let pid = wait::for_some("the child's pid", Duration::from_secs(10), || {
            std::future::ready(fs::read_to_string(&path).ok())
        });
        let pid: u32 = pid.await.unwrap().parse().unwrap();
        assert!(is_running(pid));
        parent.kill().unwrap();
        let gone = wait::until("the child's end", Duration::from_secs(10), || std::future::ready(!is_running(pid)));
        gone.await.unwrap();
    }
}
