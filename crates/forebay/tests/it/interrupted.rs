//! What an interrupted upload leaves in its store: nothing, also of parts that were on their way to it.

use crate::common::{BUCKET, DEADLINE, Lake, Shape};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{fault::Link, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::Path;

/// Each of ten parts.
const LENGTH: u64 = 50 << 20;

/// A store that is quick enough to take the parts under way while the command ends, and one that is not: what it is given then is broken off.
const RATES: [u64; 2] = [40 << 20, 8 << 20];

/// Files of uploads in the directory of the store, which lists nothing of an upload that was aborted and got a part afterwards.
fn parts_on_disk(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(parts_on_disk(&path)?),
            false => found.push(path.display().to_string()),
        }
    }
    Ok(found)
}

#[tokio::test]
async fn an_interrupted_upload_leaves_no_part_in_its_store() -> Result<()> {
    let mount_flags = vec!["--sync-interval", "0", "-o", "part_size=5MiB"];
    let lake = Lake::start(Shape { mount_flags, ..Shape::default() }).await?;
    let home = tempfile::tempdir()?;
    let big = home.path().join("big");
    File::create(&big)?.set_len(LENGTH)?;
    let from = format!("file:{}", big.display());
    let uploads = lake.store.data_dir().join(BUCKET).join(".sgwtmp/multipart");
    for round in 0..4 {
        lake.proxy.reset_counts();
        lake.proxy.set_link(Link { bytes_per_second: Some(RATES[round % 2]), ..Link::default() });
        let mut copy = lake.cluster.command(&["fs", "cp", &from, "/lake/x"]).spawn()?;
        let parts = || lake.proxy.requests().into_iter().filter(|seen| seen.target.contains("partNumber="));
        wait::until("a part to be on its way", DEADLINE, || async {
            parts().any(|part| part.received > 0 && !part.ended) && parts().count() > round
        })
        .await?;
        let pid = copy.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
        let (signal, code) = [(Signal::INT, 130), (Signal::TERM, 143)][round / 2 % 2];
        kill_process(pid, signal)?;
        ensure!(copy.wait().await?.code() == Some(code), "round {round}");
        wait::until("all parts to have ended", DEADLINE, || async { parts().all(|part| part.ended) }).await?;
        let left = async || -> Result<Vec<String>> {
            let listed = lake.store.client().uploads(BUCKET).await?.into_iter().map(|upload| upload.upload_id);
            Ok(listed.chain(parts_on_disk(&uploads)?).collect())
        };
        let cleared =
            wait::until("the store to be clear", DEADLINE, || async { left().await.is_ok_and(|left| left.is_empty()) });
        cleared.await.with_context(|| format!("round {round}: {:?}", parts_on_disk(&uploads)))?;
        lake.fails(3, &["fs", "stat", "/lake/x"]).await?;
    }
    ensure!(lake.store.client().list(BUCKET, "").await?.is_empty());
    Ok(())
}
