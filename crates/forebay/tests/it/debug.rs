//! `forebay debug` on the files of a master that runs, one that does not, and one whose files are damaged.

use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::data::mix;
use serde_json::Value;
use std::path::{Path, PathBuf};

async fn with_directories() -> Result<Cluster> {
    let cluster = Cluster::start(Layout { program: Some(program()), ..Layout::default() }).await?;
    for n in 0..20 {
        cluster.cli_ok(&["fs", "mkdir", "-p", &format!("/a/d{n}")]).await?;
    }
    Ok(cluster)
}

async fn json(cluster: &Cluster, dir: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments = [&["debug"], arguments, &["--json", "--dir", dir]].concat();
    let text = cluster.cli_ok(&arguments).await?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_master_are_shown_whether_it_runs_or_not() -> Result<()> {
    let mut cluster = with_directories().await?;
    let dir = cluster.master().dir().join("data/master").display().to_string();
    // It runs: the log is on disk, the state as far as it was flushed.
    cluster.cli_ok(&["masters", "snapshot"]).await?;
    cluster.cli_ok(&["fs", "mkdir", "/later"]).await?;
    for runs in [true, false] {
        if !runs {
            cluster.master().terminate(DEADLINE).await?;
        }
        let log = json(&cluster, &dir, &["log"]).await?;
        let actions: Vec<&str> = log.iter().filter_map(|entry| entry["action"].as_str()).collect();
        // A new cluster takes the newest version first.
        let actions: Vec<&str> = actions.into_iter().skip_while(|action| *action == "SetClusterVersion").collect();
        ensure!(actions.len() >= 21 && actions.iter().all(|action| *action == "MakeDirectory"), "{actions:?}");
        ensure!(log[0]["kind"] == "members" && log[0]["index"] == 0, "{}", log[0]);
        ensure!(
            log.windows(2).all(|pair| pair[1]["index"].as_u64() == pair[0]["index"].as_u64().map(|index| index + 1))
        );
        ensure!(log.last().context("entries")?["detail"].as_str().is_some_and(|detail| detail.contains("/later")));
        let some = json(&cluster, &dir, &["log", "--from", "5", "-n", "2"]).await?;
        ensure!(some.len() == 2 && some[0] == log[5], "{some:?}");
        let last = json(&cluster, &dir, &["log", "--last", "3"]).await?;
        ensure!(last == log[log.len() - 3..], "{last:?}");
        let state = json(&cluster, &dir, &["state"]).await?;
        let inodes = if runs { 22 } else { 23 };
        ensure!(state[0]["inodes"] == inodes, "{state:?}");
        let rows =
            state[0]["kinds"].as_array().context("kinds")?.iter().find(|kind| kind["kind"] == "I").context("inodes")?;
        ensure!(rows["rows"] == inodes, "{rows}");
        let by_path = json(&cluster, &dir, &["inode", "/a/d7"]).await?;
        let by_number = json(&cluster, &dir, &["inode", &by_path[0]["inode"].to_string()]).await?;
        ensure!(
            by_path == by_number && by_path[0]["path"] == "/a/d7" && by_path[0]["kind"] == "directory",
            "{by_path:?}"
        );
        let told = cluster.cli(&["debug", "inode", "--dir", &dir, "/none"]).await?;
        ensure!(told.status.code() == Some(3), "{told:?}");
        for arguments in [
            &["debug", "log", "--dir", &dir][..],
            &["debug", "state", "--dir", &dir],
            &["debug", "inode", "--dir", &dir, "1"],
        ] {
            ensure!(!cluster.cli_ok(arguments).await?.is_empty(), "{arguments:?}");
        }
    }
    let config = cluster.master().dir().join("forebay.toml").display().to_string();
    cluster.cli_ok(&["--config", &config, "debug", "state"]).await?;
    // It was only looked at.
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    cluster.cli_ok(&["fs", "stat", "/later"]).await.map(drop)
}

/// Whatever byte of whatever file is turned, or wherever it is cut: an answer or a clear error, never a panic, and nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_give_clear_errors() -> Result<()> {
    let mut cluster = with_directories().await?;
    cluster.master().terminate(DEADLINE).await?;
    let good = cluster.master().dir().join("data/master");
    let temp = tempfile::tempdir()?;
    let files = walk(&good)?;
    let (mut told, mut state) = (0, 20);
    for file in files.iter().filter(|file| std::fs::metadata(file).is_ok_and(|meta| meta.len() > 0)) {
        let name = file.strip_prefix(&good)?;
        if name.components().next().is_none_or(|first| !matches!(first.as_os_str().to_str(), Some("log" | "state")))
            || name.ends_with("LOG")
        {
            continue;
        }
        for round in 0..3 {
            let dir = temp.path().join("damaged");
            copy(&good, &dir)?;
            let mut bytes = std::fs::read(file)?;
            state = mix(state);
            let at = (state % bytes.len() as u64) as usize;
            match round {
                0 => bytes.truncate(at),
                _ => bytes[at] ^= 1 << (state >> 32 & 7),
            }
            std::fs::write(dir.join(name), &bytes)?;
            let dir_text = dir.display().to_string();
            for arguments in [&["log"][..], &["state"], &["inode", "/a/d7"], &["inode", "20"]] {
                let arguments = [&["debug"], arguments, &["--dir", &dir_text]].concat();
                let output = cluster.cli(&arguments).await?;
                let text = String::from_utf8_lossy(&output.stderr);
                let fine = matches!(output.status.code(), Some(0 | 1 | 2 | 3 | 6 | 8)) && !text.contains("panicked");
                ensure!(fine, "{arguments:?}, {name:?} turned at {at}: {}: {text}", output.status);
                ensure!(output.status.success() || text.starts_with("error: "), "{text}");
                told += usize::from(!output.status.success());
            }
            ensure!(std::fs::read(dir.join(name))? == bytes, "{name:?} was changed");
            std::fs::remove_dir_all(&dir)?;
        }
    }
    ensure!(told > 10, "only {told} errors were told");
    Ok(())
}

fn walk(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a name")?);
        if path.is_dir() { copy(&path, &target)? } else { std::fs::copy(&path, &target).map(drop)? }
    }
    Ok(())
}
