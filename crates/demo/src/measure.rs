//! Reading a mount through the client, as a program would, with every byte checked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay_base::checksum::Crc32c;
use forebay_client::Client;
use futures::{StreamExt, TryStreamExt, stream};

use crate::dataset::Expected;
use crate::world::Source;

/// Files read at once, as a data loader or a query engine would.
const READERS: usize = 8;

/// The share of what was read before that must come from the cache. Less than all: a store is also asked what has changed.
const HOT_HITS_MIN: f64 = 0.9;

/// Whether the bytes are in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// For the first time.
    Cold,
    /// Again.
    Hot,
}

impl Pass {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Hot => "hot",
        }
    }
}

/// What one reading took.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) mount: &'static str,
    pub(crate) place: &'static str,
    pub(crate) pass: Pass,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    /// Bytes that the store sent meanwhile, where they are counted.
    pub(crate) fetched: Option<u64>,
}

impl Reading {
    /// The share of the bytes that did not come from the store.
    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        self.fetched.map(|fetched| 1.0 - (fetched as f64 / self.bytes as f64).min(1.0))
    }

    /// Fails when what was read before came from the store again.
    pub(crate) fn check(&self) -> Result<()> {
        let hits = self.hit_ratio().filter(|_| self.pass == Pass::Hot).unwrap_or(1.0);
        let percent = hits * 100.0;
        ensure!(hits >= HOT_HITS_MIN, "{} was fetched again: only {percent:.0} % came from the cache", self.mount);
        Ok(())
    }
}

/// Reads every file of a mount.
pub(crate) async fn read_all(client: &Client, source: &Source, pass: Pass) -> Result<Reading> {
    if let Some(proxy) = &source.proxy {
        proxy.reset_counts();
    }
    let started = Instant::now();
    let reads = stream::iter(&source.files).map(|file| read_one(client, source.mount, file));
    let bytes = reads.buffer_unordered(READERS).try_fold(0, |sum, bytes| async move { Ok(sum + bytes) }).await?;
    let time = started.elapsed();
    Ok(Reading {
        mount: source.mount,
        place: source.place,
        pass,
        files: source.files.len(),
        bytes,
        time,
        fetched: source.proxy.as_ref().map(|proxy| proxy.totals().sent),
    })
}

async fn read_one(client: &Client, mount: &str, expected: &Expected) -> Result<u64> {
    let path = format!("{mount}/{}", expected.key);
    let file = client.open(path.as_str()).await.with_context(|| format!("opening {path}"))?;
    let mut chunks = file.stream(..);
    let mut checksum = Crc32c::new();
    let mut length = 0;
    while let Some(chunk) = chunks.try_next().await.with_context(|| format!("reading {path}"))? {
        checksum.update(&chunk);
        length += chunk.len() as u64;
    }
    ensure!(length == expected.length, "{path} has {length} bytes, {} were generated", expected.length);
    ensure!(checksum.finalize() == expected.checksum, "{path} differs from what was generated");
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_reading_must_come_from_the_cache() {
        let reading = |pass, fetched| Reading {
            mount: "/lake",
            place: "far store",
            pass,
            files: 1,
            bytes: 1000,
            time: Duration::from_secs(1),
            fetched,
        };
        for (pass, fetched, holds) in [
            (Pass::Cold, Some(1000), true),
            (Pass::Hot, Some(0), true),
            (Pass::Hot, Some(100), true),
            (Pass::Hot, Some(101), false),
            (Pass::Hot, Some(1000), false),
            (Pass::Hot, None, true),
        ] {
            assert_eq!(reading(pass, fetched).check().is_ok(), holds, "{pass:?} {fetched:?}");
        }
    }
}
