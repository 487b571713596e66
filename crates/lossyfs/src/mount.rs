//! The mount: in a namespace that this process alone is in, so that the kernel ends it with the process whatever happens. Only root can make
//! one; for others the helper `fusermount3` mounts for all to see.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use anyhow::{Context, Result, bail};
use fuser::{BackgroundSession, Config, MountOption, Session};

use super::door::Door;

/// Threads that answer the kernel.
const THREADS: usize = 2;

/// A mounted door.
pub(super) struct Mount {
    point: PathBuf,
    session: BackgroundSession,
}

impl Mount {
    pub(super) fn new(point: &Path, door: Door) -> Result<Mount> {
        if !Path::new("/dev/fuse").exists() {
            bail!("there is no /dev/fuse, which a file system that loses what is not synced needs: modprobe fuse");
        }
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("lossy".to_owned()), MountOption::DefaultPermissions];
        config.n_threads = Some(THREADS);
        let session = Session::new(door, point, &config).and_then(Session::spawn).with_context(|| {
            format!("cannot mount at {}: run it as root, or install fuse3 for fusermount3", point.display())
        })?;
        Ok(Mount { point: point.to_owned(), session })
    }

    /// Unmounts it. Given back with the reason when somebody still uses it.
    pub(super) fn end(self) -> std::result::Result<(), (Mount, io::Error)> {
        match unmount(&self.point) {
            // Who is not root has to ask the helper, which the session does.
            Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err((self, error)),
            _ => {
                // All requests are answered when its threads have ended; how they took the end of the mount does not matter.
                let _ = self.session.umount_and_join();
                Ok(())
            }
        }
    }
}

fn unmount(point: &Path) -> io::Result<()> {
    let point = CString::new(point.as_os_str().as_bytes())?;
    // SAFETY: a C string that lives as long as the call.
    match unsafe { libc::umount2(point.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this process mounts of its own, of which nobody else hears; false where that is not allowed. To be called before there are threads.
pub(super) fn make_private() -> Result<bool> {
    // SAFETY: unshare takes no pointers; it changes what this thread sees, and those that it starts.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Ok(false);
    }
    let root: &CStr = c"/";
    // SAFETY: the target is a C string, and with these flags the other pointers are not looked at (mount(2)).
    let done =
        unsafe { libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) };
    match done {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()).context("making the mounts of this process its own"),
    }
}
