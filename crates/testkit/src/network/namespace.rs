//! One network namespace: made, entered, and programs started in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};

/// What a network of ours is made of, tried by a child that takes it along when it ends.
const TRIAL: &str = "ip link set lo up && ip link add name hub type bridge && nft add table inet cuts";

/// Gives this process, before it has a second thread, a network of its own: empty, reached by nobody, and gone with its last process. So nothing
/// that is made in it can be left on the machine, or meet what others make. Root needs just that; others a user namespace besides, which most
/// systems give to anybody. The error says what is missing, where it is not allowed; then nothing has changed.
pub fn enter_private() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("counting our threads")?.count();
    ensure!(threads == 1, "a network can be entered by the first thread alone, and there are {threads}");
    let tried = |options: &[&str]| run(Command::new("unshare").args(options).args(["--net", "sh", "-c", TRIAL]));
    if tried(&[]).is_ok() {
        unshare(libc::CLONE_NEWNET).context("making a network namespace")?;
    } else {
        tried(&["--user", "--map-root-user"]).context(
            "no network namespace can be used: run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
        )?;
        // SAFETY: both only return a number of this process.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET).context("making a user and a network namespace")?;
        let map = |file: &str, text: String| fs::write(file, text).with_context(|| format!("writing {file}"));
        map("/proc/self/setgroups", "deny".to_owned())?;
        map("/proc/self/uid_map", format!("0 {user} 1"))?;
        map("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    run(Command::new("ip").args(["link", "set", "lo", "up"]))
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare(2) touches no memory of ours; it moves the calling thread into new namespaces or fails and changes nothing.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A namespace that lives as long as this value, or a process in it.
#[derive(Clone, Debug)]
pub(super) struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// Makes an empty one. The caller stays where it is.
    pub(super) fn make() -> Result<Namespace> {
        let made = thread::spawn(|| {
            unshare(libc::CLONE_NEWNET)?;
            // That of this thread, which ends; the open file keeps the namespace.
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().expect("the thread does not panic").context("making a network namespace")?;
        Ok(Namespace(Arc::new(file.into())))
    }

    /// A path by which children of this process find it.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Has the program start in it.
    pub(super) fn place(&self, command: &mut Command) {
        let namespace = Arc::clone(&self.0);
        // SAFETY: between fork and exec the closure makes one system call, allocates nothing, and owns the descriptor that it names.
        unsafe {
            command.pre_exec(move || match libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
    }

    /// Runs a program in it to its end.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        self.place(&mut command);
        run(command.args(arguments))
    }
}

/// Runs a program to its end, which must be a good one. It is looked for where only root looks, too.
pub(super) fn run(command: &mut Command) -> Result<()> {
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, told.trim());
    Ok(())
}
