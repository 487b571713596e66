//! Backups that are restored.

use super::{BUCKET, create, fails, json, list, restore, s3, start, start_with, tree, uri_of};
use crate::common::{DEADLINE, program, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_backup::{BackupId, Manifest};
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::wait;
use std::path::Path;

/// One mount with files in directories, and directories outside of it.
async fn fill(cluster: &forebay_testkit::cluster::Cluster, store: &Path) -> Result<()> {
    cluster.cli_ok(&["mount", "add", "/lake", &uri_of(store), "--sync-interval", "never"]).await?;
    let local = tempfile::tempdir()?;
    for (name, length) in [("a", 0), ("b", 1), ("c", 70_000), ("d", 3 << 20)] {
        write_seeded(&local.path().join(name), length)?;
    }
    cluster.cli_ok(&["fs", "cp", "-r", &format!("file:{}", local.path().display()), "/lake/files"]).await?;
    cluster.cli_ok(&["fs", "mkdir", "-p", "/lake/made/empty", "/plain/of/no/store"]).await?;
    cluster.cli_ok(&["fs", "mv", "/lake/files/b", "/lake/files/moved"]).await?;
    cluster.cli_ok(&["fs", "cp", "/lake/files/c", "/lake/files/gone"]).await?;
    cluster.cli_ok(&["fs", "rm", "/lake/files/gone"]).await.map(drop)
}

/// A writer makes directories one after the other while the backup is made: what is restored is a moment of that, with all from before.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_made_under_load_is_restored_whole() -> Result<()> {
    let (store, target) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let old = start(1, "").await?;
    fill(&old, store.path()).await?;
    let before = tree(&old, "/lake").await?;
    ensure!(before.len() >= 7, "{before:?}");
    let client = forebay_client::Client::connect(forebay_client::ClientConfig::new([old.masters()])).await?;
    let made = std::sync::atomic::AtomicU64::new(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    use std::sync::atomic::Ordering::SeqCst;
    let load = async {
        client.make_directory("/load", forebay_client::MakeDirectoryOptions::default()).await?;
        for n in 0.. {
            client.make_directory(&format!("/load/{n:08}"), forebay_client::MakeDirectoryOptions::default()).await?;
            made.store(n + 1, SeqCst);
            if stop.load(SeqCst) {
                break;
            }
        }
        anyhow::Ok(())
    };
    let backup = async {
        wait::until("some load", DEADLINE, || async { made.load(SeqCst) > 50 }).await?;
        let least = made.load(SeqCst);
        let told = create(&old, &uri_of(target.path()), &[]).await;
        stop.store(true, SeqCst);
        anyhow::Ok((least, told?))
    };
    let (loaded, backup) = tokio::join!(load, backup);
    loaded?;
    let (least, told) = backup?;
    let most = made.load(SeqCst);
    let verified = json(&old, &["backup", "verify", "--json", "--to", &uri_of(target.path())]).await?;
    ensure!(verified[0]["id"] == told["id"] && verified[0]["inodes"] == told["inodes"], "{verified:?} {told}");
    // The old one goes on, and gives numbers that the new one must not give again.
    old.cli_ok(&["fs", "mkdir", "/lake/made/later"]).await?;
    let later = json(&old, &["fs", "stat", "--json", "/lake/made/later"]).await?;
    let old_status = json(&old, &["status", "--json"]).await?;
    drop(old);

    let new = restore(&uri_of(target.path())).await?;
    ensure!(
        tree(&new, "/lake/files").await?
            == before
                .iter()
                .filter(|entry| entry["path"].as_str().is_some_and(|path| path.starts_with("/lake/files/")))
                .cloned()
                .collect::<Vec<_>>(),
        "the trees differ"
    );
    new.cli_ok(&["fs", "stat", "/plain/of/no/store", "/lake/made/empty"]).await?;
    for (name, length) in [("a", 0), ("moved", 1), ("c", 70_000), ("d", 3 << 20)] {
        let bytes = std::fs::read(store.path().join("files").join(name))?;
        ensure!(bytes.len() as u64 == length, "{name}");
        let output = new.cli(&["fs", "cat", &format!("/lake/files/{name}")]).await?;
        ensure!(output.status.success() && output.stdout == bytes, "{name}: {} bytes", output.stdout.len());
    }
    let names: Vec<String> = json(&new, &["fs", "ls", "--json", "/load"])
        .await?
        .iter()
        .filter_map(|entry| Some(entry["path"].as_str()?.to_owned()))
        .collect();
    let prefix: Vec<String> = (0..names.len()).map(|n| format!("/load/{n:08}")).collect();
    ensure!(names == prefix, "no moment of the old one has {names:?}");
    ensure!((least..=most + 1).contains(&(names.len() as u64)), "{} are not from {least} to {most}", names.len());
    // What others, and the old cluster, put into the store later is found, also where it is never compared again.
    new.cli_ok(&["fs", "stat", "/lake/made/later"]).await?;
    let again = json(&new, &["fs", "stat", "--json", "/lake/made/later"]).await?;
    ensure!(again[0]["inode"].as_u64() > later[0]["inode"].as_u64(), "{again:?} {later:?}");
    new.cli_ok(&["fs", "mkdir", "/load/more", "/lake/more"]).await?;
    let status = json(&new, &["status", "--json"]).await?;
    ensure!(status[0]["cluster_id"] != old_status[0]["cluster_id"], "it is another cluster");
    Ok(())
}

/// The workers of the old cluster, which find the restored one at the address of the old masters, are none of its: clients would be sent to caches of other files.
#[tokio::test(flavor = "multi_thread")]
async fn workers_of_the_old_cluster_are_not_taken_in() -> Result<()> {
    let target = tempfile::tempdir()?;
    let to = uri_of(target.path());
    let layout = Layout { program: Some(program()), workers: 1, lone_masters: true, ..Layout::default() };
    let mut cluster = Cluster::start(layout).await?;
    wait::until("the worker to be listed", DEADLINE, || async {
        json(&cluster, &["status", "--json"]).await.is_ok_and(|status| workers(&status) == 1)
    })
    .await?;
    create(&cluster, &to, &[]).await?;
    cluster.master().kill()?;
    let log = cluster.worker(0).dir().join("log");
    let says = async |what: &str| {
        wait::until(what, DEADLINE, || async { std::fs::read_to_string(&log).is_ok_and(|text| text.contains(what)) })
            .await
    };
    // As long as a restore takes.
    says("no master answers").await?;
    std::fs::remove_dir_all(cluster.master().dir().join("data/master"))?;
    cluster.master().restart_with(&["--restore-from".to_owned(), to])?;
    cluster.master().wait_ready(DEADLINE).await?;
    says("cannot join the cluster").await?;
    says("belongs to cluster").await?;
    let status = json(&cluster, &["status", "--json"]).await?;
    ensure!(status[0]["workers"].is_array() && workers(&status) == 0, "{status:?}");
    Ok(())
}

/// How many workers a status lists, live or not.
fn workers(status: &[serde_json::Value]) -> usize {
    status[0]["workers"].as_array().map_or(usize::MAX, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_goes_on_after_restarts_and_grows_to_three() -> Result<()> {
    let (store, target) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let old = start(1, "").await?;
    fill(&old, store.path()).await?;
    create(&old, &uri_of(target.path()), &[]).await?;
    drop(old);
    let mut new = restore(&uri_of(target.path())).await?;
    new.cli_ok(&["fs", "mkdir", "/first"]).await?;
    new.master().restart()?;
    new.master().wait_ready(DEADLINE).await?;
    let before = tree(&new, "/").await?;
    for _ in 0..2 {
        let index = new.start_master()?;
        let address = new.master_address(index);
        wait::until("the new one to be taken in", DEADLINE, || async {
            new.cli(&["masters", "add", &address]).await.is_ok_and(|output| output.status.success())
        })
        .await?;
        new.cli_ok(&["fs", "mkdir", &format!("/with-{index}")]).await?;
    }
    // The worker goes with the first one.
    new.master().kill()?;
    let after = tree(&new, "/").await?;
    ensure!(
        after.len() == before.len() + 2 && before.iter().all(|entry| after.contains(entry)),
        "{before:?} {after:?}"
    );
    new.cli_ok(&["fs", "mkdir", "/with-two"]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_into_an_empty_directory_only() -> Result<()> {
    let (store, target) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut cluster = start(1, "").await?;
    fill(&cluster, store.path()).await?;
    let to = uri_of(target.path());
    create(&cluster, &to, &[]).await?;
    let arguments = ["--restore-from".to_owned(), to.clone()];
    cluster.master().kill()?;
    cluster.master().restart_with(&arguments)?;
    let ended = cluster.master().process().wait(DEADLINE).await?;
    ensure!(!ended.success(), "it began over its own data");
    let said = std::fs::read_to_string(cluster.master().dir().join("log"))?;
    ensure!(said.contains("an empty one only"), "{said}");
    // As it was.
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    cluster.cli_ok(&["fs", "stat", "/lake/files/d"]).await?;

    // One that did not end is no master's data, and begins anew.
    let master = cluster.master().dir().join("data/master");
    cluster.master().kill()?;
    for part in ["data/master", "data/worker", "cache"] {
        std::fs::remove_dir_all(cluster.master().dir().join(part))?;
    }
    std::fs::create_dir_all(master.join("restoring"))?;
    std::fs::create_dir_all(master.join("state/1"))?;
    std::fs::write(master.join("state/1/000012.sst"), "half of it")?;
    std::fs::write(master.join("secret.key"), "half")?;
    cluster.master().restart()?;
    ensure!(!cluster.master().process().wait(DEADLINE).await?.success(), "it began with half a state");
    let said = std::fs::read_to_string(cluster.master().dir().join("log"))?;
    ensure!(said.contains("did not end"), "{said}");
    cluster.master().restart_with(&arguments)?;
    cluster.master().wait_ready(DEADLINE).await?;
    cluster.cli_ok(&["fs", "stat", "/lake/files/d"]).await?;
    ensure!(!master.join("restoring").exists(), "it has ended");
    Ok(())
}

/// Scripts see by the exit code why nothing was restored, as `docs/commands.md` says.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_has_the_exit_code_of_its_cause() -> Result<()> {
    let (target, empty, home) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let to = uri_of(target.path());
    let cluster = start(1, "").await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    create(&cluster, &to, &[]).await?;
    let data = home.path().join("data");
    let check = async |code: i32, what: &str, from: &str, set: &[&str], more: &[&str]| -> Result<()> {
        let mut command = tokio::process::Command::new(program());
        let data = format!("data_dir={}", data.display());
        let common = [data.as_str(), "roles=[\"master\"]", "master.listen=127.0.0.1:0", "web.listen=off"];
        for one in common.iter().chain(set) {
            command.args(["--set", one]);
        }
        command.args(["server", "--restore-from", from]).args(more).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output()).await.context("it serves")??;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && text.contains(what),
            "{} instead of {code}: {text}",
            output.status
        );
        Ok(())
    };
    check(
        2,
        "--restore-from is for a master",
        &to,
        &["roles=[\"worker\"]", "worker.listen=127.0.0.1:0", "worker.control_listen=127.0.0.1:0"],
        &[],
    )
    .await?;
    check(2, "unknown scheme", "gopher://x", &[], &[]).await?;
    check(3, "there is no backup", &uri_of(empty.path()), &[], &[]).await?;
    check(6, "does not exist", &uri_of(&empty.path().join("gone")), &[], &[]).await?;
    let none = home.path().join("no.key").display().to_string();
    check(2, "is not the secret.key", &to, &[], &["--restore-secret-key", &none]).await?;
    // Not the first of the list.
    let port = forebay_testkit::port::Port::reserve()?;
    let list = format!("masters=[\"127.0.0.1:1\", \"{}\"]", port.address());
    let listen = format!("master.listen={}", port.address());
    drop(port);
    check(1, "start this one without --restore-from", &to, &[&list, &listen], &[]).await?;
    // A server that has its own data, and one whose backup is damaged.
    let key = data.join("master/secret.key");
    std::fs::write(&key, [7; 32])?;
    check(1, "an empty one only", &to, &[], &[]).await?;
    std::fs::remove_file(&key)?;
    let files = walk(target.path())?;
    let state = files.iter().find(|path| path.to_string_lossy().contains("/files/")).context("a file of the state")?;
    let mut bytes = std::fs::read(state)?;
    bytes[0] ^= 0x55;
    std::fs::write(state, bytes)?;
    check(8, "error: ", &to, &[], &[]).await
}

/// The log of the new cluster begins where the manifest says, so that must be where the state is.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_entry_is_refused() -> Result<()> {
    let target = tempfile::tempdir()?;
    let to = uri_of(target.path());
    let mut cluster = start(1, "").await?;
    let made = create(&cluster, &to, &[]).await?;
    let (of, name) = (made["cluster"].as_str().context("a cluster")?, made["id"].as_str().context("an id")?);
    let at = target.path().join(of).join("backups").join(name);
    let id = BackupId::parse(name).context("an id")?;
    let mut manifest = Manifest::decode(&id, &std::fs::read(&at)?)?;
    manifest.index += 1;
    std::fs::write(&at, manifest.encode())?;
    let node = cluster.master();
    node.kill()?;
    for part in ["data/master", "data/worker", "cache"] {
        std::fs::remove_dir_all(node.dir().join(part))?;
    }
    node.restart_with(&["--restore-from".to_owned(), to])?;
    ensure!(!node.process().wait(DEADLINE).await?.success(), "it was restored");
    let said = std::fs::read_to_string(node.dir().join("log"))?;
    ensure!(said.contains("its state is at entry"), "{said}");
    Ok(())
}

/// Which of several clusters' backups is meant must be said, and the key that opens stored credentials is the old cluster's.
#[tokio::test(flavor = "multi_thread")]
async fn stored_credentials_come_back_with_the_key_of_the_old_cluster() -> Result<()> {
    let (target, keys, lake) = (tempfile::tempdir()?, tempfile::tempdir()?, s3().await?);
    lake.client().put(BUCKET, "object", "content").await?;
    let access = lake.access().clone();
    let mut old = start(1, "").await?;
    let id = format!("access_key_id={}", access.access_key);
    let secret = format!("secret_access_key={}", access.secret_key);
    let mount = ["mount", "add", "/lake", "s3://backups", "--endpoint", &access.endpoint, "-o", &id, "-o", &secret];
    old.cli_ok(&mount).await?;
    let to = uri_of(target.path());
    let made = create(&old, &to, &[]).await?;
    let key = keys.path().join("secret.key");
    std::fs::copy(old.master().dir().join("data/master/secret.key"), &key)?;
    drop(old);
    let held = walk(target.path())?;
    let secret = access.secret_key.as_bytes();
    let key_bytes = std::fs::read(&key)?;
    for path in held {
        let bytes = std::fs::read(&path)?;
        let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        ensure!(!holds(secret) && !holds(&key_bytes), "{path:?} has a secret");
    }

    let with_key = ["--restore-from", &to, "--restore-secret-key", &key.display().to_string()];
    let new = start_with(1, "", &[], &with_key).await?;
    ensure!(new.cli_ok(&["fs", "cat", "/lake/object"]).await? == "content");
    // Without it all else is there.
    let mut other = restore(&to).await?;
    let refused = fails(&other, 8, &["fs", "cat", "/lake/object"]).await?;
    ensure!(refused.contains("forebay mount update"), "{refused}");
    let log = std::fs::read_to_string(other.master().dir().join("log"))?;
    ensure!(log.contains("these mounts have stored credentials") && log.contains("/lake"), "{log}");
    let update = ["mount", "update", "/lake", "-o", &id, "-o", &format!("secret_access_key={}", access.secret_key)];
    other.cli_ok(&update).await?;
    ensure!(other.cli_ok(&["fs", "cat", "/lake/object"]).await? == "content");

    // Two clusters' backups.
    create(&other, &to, &[]).await?;
    let all = list(&other, &to, &[]).await?;
    ensure!(all.len() == 2 && all[0]["id"] == made["id"] && all[0]["cluster"] != all[1]["cluster"], "{all:?}");
    let refused = fails(&other, 2, &["backup", "verify", "--to", &to]).await?;
    ensure!(refused.contains("several clusters"), "{refused}");
    other.cli_ok(&["backup", "verify", "--to", &to, made["id"].as_str().context("an id")?]).await?;
    let node = other.master();
    node.kill()?;
    for part in ["data/master", "data/worker", "cache"] {
        std::fs::remove_dir_all(node.dir().join(part))?;
    }
    std::fs::write(&key, [7; 32])?;
    let id = made["id"].as_str().context("an id")?;
    let wrong = [&with_key[..], &["--restore-backup", id]].concat();
    node.restart_with(&wrong.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())?;
    ensure!(!node.process().wait(DEADLINE).await?.success(), "a wrong key was taken");
    let said = std::fs::read_to_string(node.dir().join("log"))?;
    ensure!(said.contains("is not the secret.key"), "{said}");
    // Nothing was begun: it may start without.
    node.restart_with(&["--restore-from", &to, "--restore-backup", id].map(str::to_owned))?;
    node.wait_ready(DEADLINE).await
}

/// All files below a directory.
fn walk(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// The first of the list restores; the others are taken in, and one that runs with old data is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_masters_restores() -> Result<()> {
    let target = tempfile::tempdir()?;
    let to = uri_of(target.path());
    let mut old = start(3, "").await?;
    old.cli_ok(&["fs", "mkdir", "/kept"]).await?;
    // Each process has the same disk here.
    create(&old, &to, &[]).await?;
    let arguments = ["--restore-from".to_owned(), to.clone()];
    for (index, reason) in [(1, "the first of the list of masters"), (0, "belongs to cluster")] {
        let node = old.master_at(index);
        node.kill()?;
        std::fs::remove_dir_all(node.dir().join("data/master"))?;
        let _ = std::fs::remove_dir_all(node.dir().join("data/worker"));
        node.restart_with(&arguments)?;
        ensure!(!node.process().wait(DEADLINE).await?.success(), "it restored");
        let said = std::fs::read_to_string(node.dir().join("log"))?;
        ensure!(said.contains(reason), "{said}");
        if index == 1 {
            node.restart()?;
            let address = old.master_address(1);
            wait::until("it to be back", DEADLINE, || async {
                old.cli(&["masters", "add", &address, "--replace", &address])
                    .await
                    .is_ok_and(|output| output.status.success())
            })
            .await?;
        }
    }
    for index in [1, 2] {
        let node = old.master_at(index);
        node.kill()?;
        std::fs::remove_dir_all(node.dir().join("data/master"))?;
    }
    old.master().restart_with(&arguments)?;
    old.master().wait_ready(DEADLINE).await?;
    for index in [1, 2] {
        old.master_at(index).restart()?;
        let address = old.master_address(index);
        wait::until("it to be taken in", DEADLINE, || async {
            old.cli(&["masters", "add", &address]).await.is_ok_and(|output| output.status.success())
        })
        .await?;
    }
    old.master().kill()?;
    old.cli_ok(&["fs", "stat", "/kept"]).await.map(drop)
}

/// What docs/operations/masters.md says about backups, line by line.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_on_backups_work() -> Result<()> {
    let page = include_str!("../../../../../docs/operations/masters.md");
    let section =
        page.split("\n## ").find(|section| section.starts_with("Backup and restore")).context("the section")?;
    let blocks =
        |kind: &str| section.split("```").filter_map(|block| block.strip_prefix(kind)).collect::<Vec<_>>().concat();
    let store = s3().await?;
    let environment = [&store.access().environment()[..], &[("AWS_ENDPOINT_URL_S3", store.endpoint())]].concat();
    // The settings first: they make a backup at once.
    let settings = blocks("toml").replace("[backup]\n", "");
    let settings = settings.lines().filter(|line| !line.is_empty()).map(|line| format!("backup.{line}\n"));
    let mut old = start_with(1, &settings.collect::<String>(), &environment, &[]).await?;
    old.cli_ok(&["fs", "mkdir", "/kept"]).await?;
    let keys = tempfile::tempdir()?;
    let key = keys.path().join("secret.key");
    std::fs::copy(old.master().dir().join("data/master/secret.key"), &key)?;
    let (mut restored, mut ran) = (None, 0);
    for line in blocks("sh").lines().filter_map(|line| line.strip_prefix("forebay ")) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ran += 1;
        match words[0] {
            "server" => {
                let key = key.display().to_string();
                let words: Vec<&str> =
                    words[1..].iter().map(|word| if *word == "secret.key" { key.as_str() } else { *word }).collect();
                restored = Some(start_with(1, "", &environment, &words).await?);
            }
            // The schedule's own may be under way.
            _ => {
                wait::until(line, DEADLINE, || async {
                    old.cli(&words).await.is_ok_and(|output| output.status.success())
                })
                .await?
            }
        }
    }
    ensure!(ran == 4, "{ran} commands");
    let restored = restored.context("one of them restores")?;
    restored.cli_ok(&["fs", "stat", "/kept"]).await.map(drop)
}
