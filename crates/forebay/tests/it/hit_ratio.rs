//! The hit ratio that is shown, where reads go through descriptors: on one host, without any setting.

use crate::common::{DEADLINE, Lake};
use anyhow::Result;
use forebay_testkit::wait;

/// Long enough to be worth descriptors.
const LENGTH: u64 = 8 << 20;

#[tokio::test]
async fn reads_through_descriptors_are_hits() -> Result<()> {
    let lake = Lake::embedded().await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    let counted = async || -> Option<(u64, u64)> {
        let status = lake.json(&["status", "--json"]).await.ok()?;
        let worker = &status[0]["workers"][0];
        Some((worker["hit_bytes"].as_u64()?, worker["miss_bytes"].as_u64()?))
    };
    lake.check("/lake/big", seeded, LENGTH).await?;
    wait::until("the first read to be told", DEADLINE, || async {
        counted().await.is_some_and(|(hit, missed)| hit + missed == LENGTH)
    })
    .await?;
    let (first, _) = counted().await.unwrap_or_default();
    for _ in 0..3 {
        lake.check("/lake/big", seeded, LENGTH).await?;
    }
    wait::until("three reads of what is cached to be hits", DEADLINE, || async {
        counted().await.is_some_and(|(hit, _)| hit == first + 3 * LENGTH)
    })
    .await?;
    Ok(())
}
