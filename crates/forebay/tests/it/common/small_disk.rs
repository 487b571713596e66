//! A disk that is small: a tmpfs that only the processes of one cluster see.
//!
//! Each process runs in a mount namespace of its own, with a tmpfs of its own in the same place, so nothing of this machine is touched, and it ends
//! with the process. Root needs just that; others a user namespace besides, which most systems give to anybody.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

pub struct SmallDisk {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl SmallDisk {
    /// `size` as tmpfs takes it. The error says what is missing, where it is not allowed.
    pub fn new(size: &str, program: &Path) -> Result<SmallDisk> {
        let dir = tempfile::tempdir()?;
        let disk = dir.path().join("disk");
        std::fs::create_dir(&disk)?;
        let mount = format!("mount -t tmpfs -o size={size} none '{}'", disk.display());
        let options = [&["--mount"][..], &["--mount", "--user", "--map-root-user"]];
        let works = |options: &&[&str]| {
            let tried = Command::new("unshare").args(*options).args(["sh", "-c", &mount]).output();
            tried.is_ok_and(|output| output.status.success())
        };
        let Some(options) = options.iter().find(|options| works(options)) else {
            bail!(
                "no small disk can be made: run the tests as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
            );
        };
        // Each step replaces the one before: what is started here is the program itself in the end.
        let script = format!(
            "#!/bin/sh\nexec unshare {} sh -c \"{mount} && exec '{}' \\\"\\$@\\\"\" sh \"$@\"\n",
            options.join(" "),
            program.display()
        );
        let wrapper = dir.path().join("forebay");
        std::fs::write(&wrapper, script).context("writing the wrapper")?;
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
        Ok(SmallDisk { dir, program: wrapper })
    }

    /// What to run in place of the program.
    pub fn program(&self) -> PathBuf {
        self.program.clone()
    }

    /// Where the disk is, for the program.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Fills what is left of the disk that one process sees.
    pub fn fill(&self, pid: u32) -> Result<()> {
        let path = self.path();
        let seen = Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/")?);
        let ballast = seen.join("ballast");
        let mut file = std::fs::File::create(&ballast).with_context(|| format!("making {}", ballast.display()))?;
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("filling {}", ballast.display())),
            }
        }
    }
}
