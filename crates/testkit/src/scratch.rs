//! Directories of tests whose subjects have threads of their own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long the last of the threads may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A temporary directory that goes for good when it is dropped, though threads of what was dropped before still write their last things
/// into it: a file that comes while the others are removed keeps a directory, which is tried again then.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it where temporary files go.
    pub fn make() -> Result<Scratch> {
        Ok(Scratch(tempfile::tempdir().context("making a temporary directory")?.keep()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.0.exists() && Instant::now() < deadline {
            if std::fs::remove_dir_all(&self.0).is_err() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[test]
    fn it_goes_while_others_write_into_it() {
        let scratch = Scratch::make().unwrap();
        let (path, made) = (scratch.path().to_owned(), Arc::new(AtomicU32::new(0)));
        let writer = std::thread::spawn({
            let (path, made) = (path.clone(), made.clone());
            move || {
                for number in 0..5_000u32 {
                    made.fetch_add(fs::write(path.join(number.to_string()), "").is_ok().into(), SeqCst);
                }
            }
        });
        while made.load(SeqCst) < 100 {
            std::thread::yield_now();
        }
        drop(scratch);
        assert!(!path.exists());
        writer.join().unwrap();
        assert!(!path.exists());
    }
}
