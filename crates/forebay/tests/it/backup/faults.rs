//! Backups that are interrupted or damaged, in a real S3 server.

use super::{BUCKET, create, fails, json, list, restore, s3, start, start_with, uri_of};
use crate::common::small_disk::SmallDisk;
use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::cluster::Layout;
use forebay_testkit::fault::{Fault, Proxy, When};
use forebay_testkit::s3::{Access, S3Server};
use forebay_testkit::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

const TO: &str = "s3://backups/of/this cluster";

/// A cluster that has the keys of a store, the store, and a proxy before it that can break things.
async fn with_store(masters: usize) -> Result<(Cluster, S3Server, Proxy)> {
    let store = s3().await?;
    let proxy = Proxy::start(store.endpoint()).await?;
    let cluster = start_with(masters, "", &store.access().environment(), &[]).await?;
    Ok((cluster, store, proxy))
}

async fn make_directories(cluster: &Cluster, prefix: &str, count: usize) -> Result<()> {
    let names: Vec<String> = (0..count).map(|n| format!("/{prefix}{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.cli_ok(&[&["fs", "mkdir"], &names[..]].concat()).await.map(drop)
}

/// Every file of a backup is there, and no upload is left. Files of none stay for an hour.
async fn check_nothing_is_left(cluster: &Cluster, store: &S3Server) -> Result<()> {
    let objects = store.client().list(BUCKET, "").await?;
    let (mut files, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for object in &objects {
        if let Some((_, sum)) = object.key.split_once("/files/") {
            files.insert(sum.to_owned());
        } else {
            let manifest = store.client().get(BUCKET, &object.key).await?;
            let text = std::str::from_utf8(&manifest)?;
            let manifest: Value = serde_json::from_str(text.split_once('\n').context("a first line")?.1)?;
            needed.extend(
                manifest["files"]
                    .as_array()
                    .context("files")?
                    .iter()
                    .filter_map(|file| Some(file["sha256"].as_str()?.to_owned())),
            );
        }
    }
    ensure!(files.is_superset(&needed), "{files:?} are there, {needed:?} are needed");
    ensure!(store.client().uploads(BUCKET).await?.is_empty(), "an upload is left");
    let endpoint = store.endpoint();
    for backup in list(cluster, TO, &["--endpoint", endpoint]).await? {
        let id = backup["id"].as_str().context("an id")?;
        cluster.cli_ok(&["backup", "verify", "--to", TO, "--endpoint", endpoint, id]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_has_is_not_sent_again_and_damage_is_found() -> Result<()> {
    let (cluster, store, _proxy) = with_store(1).await?;
    let endpoint = ["--endpoint", store.endpoint()];
    make_directories(&cluster, "d", 3000).await?;
    let first = create(&cluster, TO, &endpoint).await?;
    make_directories(&cluster, "more", 3).await?;
    let second = create(&cluster, TO, &endpoint).await?;
    let sent = |made: &Value| made["sent_bytes"].as_u64().unwrap_or(0);
    ensure!(sent(&first) == first["bytes"].as_u64().unwrap_or(0) && sent(&first) > 30_000, "{first}");
    ensure!(sent(&second) < sent(&first) / 2 && sent(&second) > 0, "{second} after {first}");
    ensure!(second["inodes"].as_u64() == first["inodes"].as_u64().map(|inodes| inodes + 3), "{second}");
    check_nothing_is_left(&cluster, &store).await?;

    // A turned byte of any object is found by the backups that have it.
    let id = second["id"].as_str().context("an id")?;
    let verify = [&["backup", "verify", "--to", TO, id], &endpoint[..]].concat();
    let objects = store.client().list(BUCKET, "").await?;
    let manifest =
        store.client().get(BUCKET, &objects.iter().find(|object| object.key.ends_with(id)).context("it")?.key).await?;
    let manifest = String::from_utf8(manifest.to_vec())?;
    let of_it =
        |key: &str| key.ends_with(id) || key.split_once("/files/").is_some_and(|(_, sum)| manifest.contains(sum));
    let mut turned = 0;
    for key in objects.iter().map(|object| &object.key).filter(|key| of_it(key)) {
        let good = store.client().get(BUCKET, key).await?;
        let mut bad = good.to_vec();
        if bad.is_empty() {
            continue;
        }
        let at = bad.len() / 2;
        bad[at] ^= 1;
        store.client().put(BUCKET, key, bad).await?;
        let told = fails(&cluster, 8, &verify).await?;
        ensure!(told.contains("damaged"), "{told}");
        store.client().put(BUCKET, key, good).await?;
        turned += 1;
    }
    ensure!(turned >= 4, "{turned} objects");
    cluster.cli_ok(&verify).await?;

    // A missing one as well. One that is cut is sent again; one that has other bytes only with `--full`.
    let mut files = objects.iter().map(|object| &object.key).filter(|key| of_it(key) && key.contains("/files/"));
    let mut files = files.by_ref().filter(|key| objects.iter().any(|object| object.key == **key && object.size > 0));
    let (missing, wrong) = (files.next().context("a file")?, files.next().context("another one")?);
    store.client().delete(BUCKET, missing).await?;
    let told = fails(&cluster, 8, &verify).await?;
    ensure!(told.contains("is missing") && told.contains("--full"), "{told}");
    let length = store.client().get(BUCKET, wrong).await?.len();
    store.client().put(BUCKET, wrong, vec![7; length]).await?;
    let full = create(&cluster, TO, &[&endpoint[..], &["--full", "--keep", "1"]].concat()).await?;
    ensure!(sent(&full) == full["bytes"].as_u64().unwrap_or(0) && full["removed_backups"] == 2, "{full}");
    check_nothing_is_left(&cluster, &store).await
}

/// `kill -9` of the master while its files are on their way: there is no half backup, and the next one leaves nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_half_way_is_none_and_is_swept() -> Result<()> {
    let (mut cluster, store, proxy) = with_store(1).await?;
    let endpoint = proxy.endpoint();
    let endpoint = ["--endpoint", endpoint.as_str()];
    make_directories(&cluster, "d", 500).await?;
    for after in 0..4 {
        make_directories(&cluster, &format!("round{after}-"), 5).await?;
        let before = list(&cluster, TO, &endpoint).await?.len();
        // So many go through, the next one never gets an answer; the last of all is the manifest.
        let what = if after == 3 { "/backups/" } else { "/files/" };
        let hangs =
            proxy.inject(When::put().path_contains(what).after(if after == 3 { 0 } else { after }), Fault::BlackHole);
        // All files are sent: how many are new since the last backup is for the compaction to say, and may be fewer than go through.
        let arguments = [&["backup", "create", "--full", "--to", TO], &endpoint[..]].concat();
        let mut asked = cluster.command(&arguments).stderr(Stdio::piped()).spawn()?;
        wait::until("it to hang", DEADLINE, || async { proxy.struck(hangs) > 0 }).await?;
        cluster.master().kill()?;
        ensure!(!asked.wait().await?.success(), "it was told as made");
        proxy.clear();
        ensure!(list(&cluster, TO, &endpoint).await?.len() == before, "half a backup is listed");
        cluster.master().restart()?;
        cluster.master().wait_ready(DEADLINE).await?;
        ensure!(!cluster.master().dir().join("data/master/backup").exists(), "the copy of the state is left");
        create(&cluster, TO, &endpoint).await?;
        check_nothing_is_left(&cluster, &store).await?;
    }
    Ok(())
}

/// Another master takes the lead half way: who asked is told so, nothing is made, and the next one is.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_leader_changes_is_given_up() -> Result<()> {
    let (cluster, store, proxy) = with_store(3).await?;
    let endpoint = proxy.endpoint();
    let endpoint = ["--endpoint", endpoint.as_str()];
    make_directories(&cluster, "d", 100).await?;
    let hangs = proxy.inject(When::put().path_contains("/files/"), Fault::BlackHole);
    let arguments = [&["backup", "create", "--to", TO], &endpoint[..]].concat();
    let asked = cluster.command(&arguments).stderr(Stdio::piped()).spawn()?;
    wait::until("it to hang", DEADLINE, || async { proxy.struck(hangs) > 0 }).await?;
    // One at a time.
    let told = fails(&cluster, 7, &arguments).await?;
    ensure!(told.contains("another backup is being made"), "{told}");
    let status = json(&cluster, &["status", "--json"]).await?;
    ensure!(status[0]["backup"]["running"] == true, "{status:?}");
    let masters = json(&cluster, &["masters", "list", "--json"]).await?[0]["masters"].clone();
    let other = masters
        .as_array()
        .and_then(|all| all.iter().find(|master| master["leader"] == false))
        .context("another one")?;
    cluster.cli_ok(&["masters", "transfer", other["address"].as_str().context("an address")?]).await?;
    let ended = asked.wait_with_output().await?;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.code() == Some(6) && told.contains("not the leader"), "{}: {told}", ended.status);
    proxy.clear();
    ensure!(list(&cluster, TO, &endpoint).await?.is_empty(), "half a backup is listed");
    create(&cluster, TO, &endpoint).await?;
    check_nothing_is_left(&cluster, &store).await
}

/// Who goes away takes his backup with him.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_gives_its_backup_up() -> Result<()> {
    let (cluster, store, proxy) = with_store(1).await?;
    let endpoint = proxy.endpoint();
    let endpoint = ["--endpoint", endpoint.as_str()];
    let hangs = proxy.inject(When::put().path_contains("/files/"), Fault::BlackHole);
    let arguments = [&["backup", "create", "--to", TO], &endpoint[..]].concat();
    let mut asked = cluster.command(&arguments).stderr(Stdio::null()).spawn()?;
    wait::until("it to hang", DEADLINE, || async { proxy.struck(hangs) > 0 }).await?;
    asked.kill().await?;
    proxy.clear();
    wait::until("the next one to be made", DEADLINE, || async { create(&cluster, TO, &endpoint).await.is_ok() })
        .await?;
    check_nothing_is_left(&cluster, &store).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_used_is_told_and_nothing_is_left() -> Result<()> {
    let (mut cluster, store, proxy) = with_store(1).await?;
    let directory = tempfile::tempdir()?;
    let gone = uri_of(&directory.path().join("gone"));
    let told = fails(&cluster, 6, &["backup", "create", "--to", &gone]).await?;
    ensure!(told.contains("does not exist"), "{told}");
    let told = fails(&cluster, 2, &["backup", "create", "--to", "gopher://x"]).await?;
    ensure!(told.contains("unknown scheme"), "{told}");
    let told = fails(&cluster, 2, &["backup", "create"]).await?;
    ensure!(told.contains("--to"), "{told}");
    let told = fails(&cluster, 3, &["backup", "verify", "--to", &uri_of(directory.path())]).await?;
    ensure!(told.contains("there is no backup"), "{told}");
    ensure!(list(&cluster, &uri_of(directory.path()), &[]).await?.is_empty());
    let endpoint = proxy.endpoint();
    let endpoint = ["--endpoint", endpoint.as_str(), "-o", "deadline=2s"];
    proxy.inject(When::put(), Fault::Status(503, "SlowDown"));
    let told = fails(&cluster, 6, &[&["backup", "create", "--to", TO], &endpoint[..]].concat()).await?;
    ensure!(told.contains("SlowDown") || told.contains("503"), "{told}");
    proxy.clear();
    ensure!(!walk_has_files(&cluster.master().dir().join("data/master/backup")), "the copy of the state is left");
    cluster.cli_ok(&["fs", "mkdir", "/still"]).await?;
    create(&cluster, TO, &endpoint).await?;
    check_nothing_is_left(&cluster, &store).await?;
    let wrong = Access { secret_key: "wrong".to_owned(), ..store.access().clone() };
    let secrets = [format!("access_key_id={}", wrong.access_key), format!("secret_access_key={}", wrong.secret_key)];
    let told = fails(
        &cluster,
        5,
        &[&["backup", "create", "--to", TO, "-o", &secrets[0], "-o", &secrets[1]], &endpoint[..]].concat(),
    )
    .await?;
    ensure!(!told.contains("secret_access_key=wrong"), "{told}");
    Ok(())
}

fn walk_has_files(directory: &std::path::Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// A newer version's backup is told from a damaged one.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused() -> Result<()> {
    let (cluster, target) = (start(1, "").await?, tempfile::tempdir()?);
    let to = uri_of(target.path());
    let made = create(&cluster, &to, &[]).await?;
    let at = target
        .path()
        .join(made["cluster"].as_str().context("a cluster")?)
        .join("backups")
        .join(made["id"].as_str().context("an id")?);
    let text = std::fs::read_to_string(&at)?;
    std::fs::write(&at, text.replacen("forebay-backup 1", "forebay-backup 2", 1))?;
    let told = fails(&cluster, 2, &["backup", "verify", "--to", &to]).await?;
    ensure!(told.contains("use a newer version"), "{told}");
    let listed = list(&cluster, &to, &[]).await?;
    ensure!(listed[0]["error"].as_str().is_some_and(|error| error.contains("newer version")), "{listed:?}");
    // The files that it needs, as far as anybody can tell, stay, also when no other backup has them and they are old.
    let files = at.parent().and_then(Path::parent).context("its cluster")?.join("files");
    for file in std::fs::read_dir(&files)? {
        let file = std::fs::File::options().write(true).open(file?.path())?;
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))?;
    }
    cluster.cli_ok(&["fs", "mkdir", "/other"]).await?;
    create(&cluster, &to, &["--keep", "1"]).await?;
    std::fs::write(&at, text)?;
    cluster.cli_ok(&["backup", "verify", "--to", &to, made["id"].as_str().context("an id")?]).await?;
    drop(cluster);

    drop(restore(&to).await?);
    Ok(())
}

/// The target's disk is full: that is told, the masters serve on, and when there is room the next one is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_is_told_and_the_masters_serve_on() -> Result<()> {
    let disk = SmallDisk::new("2m", &program())?;
    let mut cluster = Cluster::start(Layout { program: Some(disk.program()), ..Layout::default() }).await?;
    make_directories(&cluster, "d", 500).await?;
    let to = uri_of(&disk.path());
    disk.fill(cluster.master().process().pid())?;
    let told = fails(&cluster, 6, &["backup", "create", "--to", &to]).await?;
    ensure!(told.to_lowercase().contains("no space"), "{told}");
    cluster.cli_ok(&["fs", "mkdir", "/on"]).await?;
    let pid = cluster.master().process().pid().to_string();
    let seen = std::path::Path::new("/proc").join(pid).join("root").join(disk.path().strip_prefix("/")?);
    std::fs::remove_file(seen.join("ballast"))?;
    let made = create(&cluster, &to, &[]).await?;
    ensure!(made["sent_bytes"].as_u64() > Some(0), "{made}");
    Ok(())
}

/// `kill -9` while the files come: nobody takes what is there for a state, and the next attempt begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_half_way_begins_anew() -> Result<()> {
    let (mut cluster, _store, proxy) = with_store(1).await?;
    let endpoint = proxy.endpoint();
    make_directories(&cluster, "d", 100).await?;
    create(&cluster, TO, &["--endpoint", &endpoint]).await?;
    cluster.master().kill()?;
    for part in ["data/master", "data/worker", "cache"] {
        std::fs::remove_dir_all(cluster.master().dir().join(part))?;
    }
    let option = format!("endpoint={endpoint}");
    let restore = ["--restore-from", TO, "--restore-option", &option].map(str::to_owned);
    for after in 0..3 {
        let hangs = proxy.inject(When::get().path_contains("/files/").after(after), Fault::BlackHole);
        cluster.master().restart_with(&restore)?;
        wait::until("it to hang", DEADLINE, || async { proxy.struck(hangs) > 0 }).await?;
        cluster.master().kill()?;
        proxy.clear();
        cluster.master().restart()?;
        ensure!(!cluster.master().process().wait(DEADLINE).await?.success(), "it began with half a state");
    }
    let said = std::fs::read_to_string(cluster.master().dir().join("log"))?;
    ensure!(said.matches("did not end: start again with --restore-from").count() == 3, "{said}");
    cluster.master().restart_with(&restore)?;
    cluster.master().wait_ready(DEADLINE).await?;
    cluster.cli_ok(&["fs", "stat", "/d0", "/d99"]).await.map(drop)
}
