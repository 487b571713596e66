//! What a store refuses to take is told with the store's own words, at once where waiting does not help.

use crate::common::{DEADLINE, Lake, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_testkit::fault::{Fault, When};

/// A file that goes as a whole, and one that goes in parts.
const SIZES: [(&str, u64); 2] = [("small", 1000), ("large", 40 << 20)];

#[tokio::test]
async fn a_full_store_is_named_when_the_deadline_passes() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.proxy.inject(When::put(), Fault::Status(507, "InsufficientStorage"));
    let dir = tempfile::tempdir()?;
    for (name, length) in SIZES {
        write_seeded(&dir.path().join(name), length)?;
        let (from, to) = (format!("file:{}", dir.path().join(name).display()), format!("/lake/{name}"));
        for json in [&[][..], &["--json"]] {
            let command = [&["--set", "client.deadline=4s", "fs", "cp"][..], json, &[&from, &to]].concat();
            let text = lake.fails(6, &command).await?;
            ensure!(text.contains("InsufficientStorage") && text.contains("free some space"), "{name}: {text}");
            ensure!(!text.contains("silent for"), "{name}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_refuses_access_is_not_asked_until_the_deadline() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.proxy.inject(When::put(), Fault::Status(403, "AccessDenied"));
    let dir = tempfile::tempdir()?;
    for (name, length) in SIZES {
        write_seeded(&dir.path().join(name), length)?;
        let (from, to) = (format!("file:{}", dir.path().join(name).display()), format!("/lake/{name}"));
        // Longer than the test waits.
        let command = ["--set", "client.deadline=30m", "fs", "cp", &from, &to];
        let failed = tokio::time::timeout(DEADLINE, lake.fails(5, &command));
        let text = failed.await.with_context(|| format!("{name} is still tried"))??;
        ensure!(text.contains("access denied") && text.contains("check the credentials"), "{name}: {text}");
    }
    Ok(())
}
