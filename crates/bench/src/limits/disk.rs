//! Reading from the page cache, and syncing to the disk.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Bytes a second of one thread that reads the file again and again in pieces of `piece_bytes`.
pub fn pread_sequential(path: &Path, piece_bytes: usize, time: Duration) -> Result<f64> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut buffer = vec![0; piece_bytes];
    let (mut offset, mut total) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < time {
        let read = file.read_at(&mut buffer, offset)? as u64;
        total += read;
        offset = if read == 0 || offset + read >= length { 0 } else { offset + read };
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

/// Reads a second of one thread that reads `piece_bytes` at random aligned places.
pub fn pread_random(path: &Path, piece_bytes: usize, time: Duration) -> Result<f64> {
    let file = File::open(path)?;
    let pieces = file.metadata()?.len() / piece_bytes as u64;
    ensure!(pieces > 0, "{} is smaller than one piece", path.display());
    let mut buffer = vec![0; piece_bytes];
    let mut random = 1_u64;
    let mut count = 0;
    let started = Instant::now();
    while started.elapsed() < time {
        // Knuth's linear congruential generator; its upper bits choose the piece.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.read_exact_at(&mut buffer, (random >> 33) % pieces * piece_bytes as u64)?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Syncs a second of one thread that appends `entry_bytes` and waits for the disk each time.
pub fn sync_rate(path: &Path, entry_bytes: usize, time: Duration) -> Result<f64> {
    let mut file = File::create(path)?;
    let entry = vec![7; entry_bytes];
    let mut count = 0;
    let started = Instant::now();
    while started.elapsed() < time {
        file.write_all(&entry)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
