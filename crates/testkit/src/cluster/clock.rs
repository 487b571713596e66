//! Wall clocks that tests set: libfaketime, loaded before the program, reads how far its clock is off from a file. Clocks that
//! only run (`CLOCK_MONOTONIC`) stay right, as they do when an operator or a time server sets a machine's clock.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where Debian's package `faketime` has it.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The variables of a process whose clock `file` sets.
pub(super) fn environment(file: &Path) -> Result<Vec<(String, String)>> {
    let library = library().context("libfaketime is not installed; run: cargo xtask setup --for test")?;
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// `/usr/lib/ARCHITECTURE/faketime/…`
fn library() -> Option<PathBuf> {
    let directories = std::fs::read_dir(LIBRARIES).ok()?;
    directories.flatten().map(|entry| entry.path().join(LIBRARY)).find(|path| path.exists())
}

/// Whether a process asks libfaketime for the time.
pub(super) fn is_read_by(pid: u32) -> Result<bool> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("reading what a process has loaded")?;
    Ok(maps.contains("libfaketime"))
}

/// Sets a clock: off by so many seconds from the machine's. Never seen half written.
pub(super) fn set(file: &Path, seconds: i64) -> Result<()> {
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}\n")).with_context(|| format!("writing {}", next.display()))?;
    std::fs::rename(&next, file).with_context(|| format!("renaming {}", next.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_clock_is_off_by_as_much_as_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock");
        for seconds in [0, 36_000, -36_000] {
            set(&file, seconds).unwrap();
            let output = Command::new("date").arg("+%s").envs(environment(&file).unwrap()).output().unwrap();
            let found: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
            assert!((found - now - seconds).abs() < 3_600, "{found} at {now}, off by {seconds}");
        }
    }
}
