//! `fs mv` as users type it: a rename within one mount, else a copy that is removed at its source.

use crate::common::{BUCKET, DEADLINE, Lake, write_seeded};
use anyhow::{Result, ensure};
use forebay_base::NsPath;
use forebay_client::{AttributeChanges, Client, ClientConfig, StatOptions, Xattr};
use forebay_testkit::{
    data::Seeded,
    fault::{Fault, When},
};
use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

/// A lake, and a store in memory at `/other`.
async fn two_mounts() -> Result<Lake> {
    let lake = Lake::embedded().await?;
    lake.ok(&["mount", "add", "/other", "memory://other"]).await?;
    Ok(lake)
}

fn place(path: &Path) -> String {
    format!("file:{}", path.display())
}

async fn is_there(lake: &Lake, path: &str) -> Result<bool> {
    Ok(lake.run(&["fs", "test", "-e", path]).await?.status.success())
}

async fn store_has_nothing_at(lake: &Lake, prefix: &str) -> Result<()> {
    let is_empty = || async { lake.store.client().list(BUCKET, prefix).await.is_ok_and(|objects| objects.is_empty()) };
    forebay_testkit::wait::until("the store to lose the objects", DEADLINE, is_empty).await
}

#[tokio::test]
async fn moves_trees_between_local_files_and_mounts() -> Result<()> {
    let lake = two_mounts().await?;
    let dir = tempfile::tempdir()?;
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b"))?;
    std::fs::create_dir_all(tree.join("hollow"))?;
    let sizes = [("one", 10), ("a/two", 70_000), ("a/b/three", 9 << 20), ("a/b/nothing", 0)];
    let mut seeds = Vec::new();
    for (name, length) in sizes {
        seeds.push((name, length, write_seeded(&tree.join(name), length)?));
    }
    std::fs::set_permissions(tree.join("one"), std::fs::Permissions::from_mode(0o640))?;
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::options().write(true).open(tree.join("one"))?.set_modified(written)?;

    let told = lake.ok(&["fs", "mv", &place(&tree), "/lake"]).await?;
    ensure!(told.starts_with("4 files, ") && told.contains(" moved"), "{told}");
    ensure!(!tree.exists(), "nothing stays at the source");
    for (name, length, seeded) in &seeds {
        lake.check(&format!("/lake/tree/{name}"), *seeded, *length).await?;
    }
    ensure!(lake.ok(&["fs", "ls", "/lake/tree"]).await? == "a/\nhollow/\none\n");

    // To the other mount, with all that the namespace knows of it.
    let client = Client::connect(ClientConfig::new([lake.cluster.masters()])).await?;
    let xattr = Xattr { name: "user.k".into(), value: "v".into() };
    let changes = AttributeChanges {
        owner: Some("ada".to_owned()),
        set_xattrs: vec![xattr.clone()],
        ..AttributeChanges::default()
    };
    client.set_attributes("/lake/tree/one", changes).await?;
    let moved = lake.json(&["fs", "mv", "--json", "/lake/tree", "/other/new"]).await?;
    ensure!(moved[0]["path"] == "/other/new" && moved[0]["from"]["path"] == "/lake/tree", "{moved:?}");
    ensure!(moved[0]["renamed"] == false && moved[0]["files"] == 4, "{moved:?}");
    lake.fails(3, &["fs", "stat", "/lake/tree"]).await?;
    store_has_nothing_at(&lake, "tree").await?;
    for (name, length, seeded) in &seeds {
        lake.check(&format!("/other/new/{name}"), *seeded, *length).await?;
    }
    let with_xattrs = StatOptions { with_xattrs: true, ..StatOptions::default() };
    let one = client.stat_with("/other/new/one", with_xattrs).await?;
    ensure!((one.mode, one.modified.0) == (0o640, 1_600_000_000_000), "{one:?}");
    ensure!(one.owner == "ada" && one.xattrs == [xattr], "{one:?}");

    // And out, one by one, into a directory.
    let out = dir.path().join("out");
    std::fs::create_dir(&out)?;
    let moved = lake.json(&["fs", "mv", "--json", "/other/new/*", &place(&out)]).await?;
    ensure!(moved.len() == 3 && moved[0]["path"] == place(&out.join("a")), "{moved:?}");
    for (name, length, seeded) in &seeds {
        ensure!(std::fs::read(out.join(name))? == seeded.bytes(0..*length), "{name}");
    }
    ensure!(out.join("hollow").is_dir());
    let metadata = std::fs::metadata(out.join("one"))?;
    ensure!(metadata.modified()? == written && metadata.permissions().mode() & 0o137 == 0, "{metadata:?}");
    ensure!(lake.ok(&["fs", "ls", "/other/new"]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_move_follows_the_rules_of_mv() -> Result<()> {
    let lake = two_mounts().await?;
    let seeded = lake.put_seeded("f", 1000).await?;
    for key in ["g", "d/x", "d/y", "e/x"] {
        lake.put_seeded(key, 10).await?;
    }
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("f"), "local")?;
    let local = place(&dir.path().join("f"));

    // Over files that are there, as the flags say.
    lake.ok(&["fs", "cp", "/lake/g", "/other/f"]).await?;
    let text = lake.fails(4, &["fs", "mv", "-n", "/lake/f", "/other"]).await?;
    ensure!(text.contains("/other/f exists already: /lake/f stays"), "{text}");
    lake.fails(4, &["fs", "mv", "-n", "/lake/f", &local]).await?;
    lake.ok(&["fs", "mv", "-n", "-f", "/lake/f", "/other"]).await?;
    lake.check("/other/f", seeded, 1000).await?;
    ensure!(!is_there(&lake, "/lake/f").await?);
    lake.ok(&["fs", "mv", &local, "/other/f"]).await?;
    ensure!(lake.cat("/other/f").await? == b"local");

    // Directories replace empty ones alone; --merge goes on file by file, in another mount and in the same.
    lake.ok(&["fs", "mkdir", "-p", "/other/d"]).await?;
    lake.ok(&["fs", "cp", "/other/f", "/other/d/x"]).await?;
    let text = lake.fails(1, &["fs", "mv", "/lake/d", "/other"]).await?;
    ensure!(text.contains("/other/d has entries already") && text.contains("--merge"), "{text}");
    let text = lake.fails(4, &["fs", "mv", "--merge", "-n", "/lake/d", "/other"]).await?;
    ensure!(text.contains("/other/d/x exists already: /lake/d/x stays"), "{text}");
    ensure!(lake.ok(&["fs", "ls", "/lake/d"]).await? == "x\n", "the other one went");
    lake.ok(&["fs", "mv", "--merge", "/lake/d", "/other"]).await?;
    lake.check("/other/d/x", Seeded::named("d/x"), 10).await?;
    ensure!(!is_there(&lake, "/lake/d").await?);
    lake.ok(&["fs", "mkdir", "-p", "/other/into/d"]).await?;
    lake.ok(&["fs", "cp", "/other/f", "/other/into/d/kept"]).await?;
    lake.fails(1, &["fs", "mv", "/other/d", "/other/into"]).await?;
    lake.ok(&["fs", "mv", "--merge", "/other/d", "/other/into"]).await?;
    ensure!(lake.ok(&["fs", "ls", "/other/into/d"]).await? == "kept\nx\ny\n");
    ensure!(!is_there(&lake, "/other/d").await?);

    // What cannot be is told before anything is copied.
    lake.ok(&["mount", "add", "/lake/e/inner", "memory://inner"]).await?;
    lake.ok(&["fs", "mkdir", "/other/g"]).await?;
    let parent = dir.path().join("sub");
    std::fs::create_dir(&parent)?;
    symlink(&parent, dir.path().join("link"))?;
    let (parent, link) = (place(&parent), place(&dir.path().join("link")));
    for (code, what, command) in [
        (1, "the file /lake/g cannot replace it", &["fs", "mv", "-T", "/lake/g", "/other/g"][..]),
        (1, "/other/f is a file", &["fs", "mv", "-T", &parent, "/other/f"]),
        (2, "is a mount point", &["fs", "mv", "/other", "/lake/x"]),
        (2, "/lake/e/inner is mounted in it", &["fs", "mv", "/lake/e", "/other"]),
        (2, "both local paths", &["fs", "mv", &parent, &local]),
        (2, "no standard input", &["fs", "mv", "-", "/lake/x"]),
        (2, "link to a directory", &["fs", "mv", &link, "/lake/x"]),
        (2, "lies in no mount", &["fs", "mv", "/lake/g", "/nowhere"]),
        (3, "no directory /other/no", &["fs", "mv", "/lake/g", "/other/no/g"]),
        (3, "/lake/none", &["fs", "mv", "/lake/none", "/other"]),
        (3, "no directory ", &["fs", "mv", "/lake/g", "/other/new/"]),
        (1, "not a directory", &["fs", "mv", "/lake/g", "/lake/e/x", "/other/f"]),
    ] {
        let text = lake.fails(code, command).await?;
        ensure!(text.contains(what), "{command:?}: {text}");
    }
    lake.check("/lake/g", Seeded::named("g"), 10).await?;
    lake.check("/lake/e/x", Seeded::named("e/x"), 10).await?;
    // Two of one name: the second does not replace the first.
    lake.put_seeded("e/g", 10).await?;
    let text = lake.fails(4, &["fs", "mv", "/lake/g", "/lake/e/g", "/other/into"]).await?;
    ensure!(text.contains("/other/into/g was just moved there: /lake/e/g stays"), "{text}");
    lake.check("/other/into/g", Seeded::named("g"), 10).await
}

#[tokio::test]
async fn what_cannot_be_taken_away_is_not_copied() -> Result<()> {
    let lake = two_mounts().await?;
    let seeded = lake.put_seeded("d/x", 1000).await?;
    let (endpoint, uri) = (lake.proxy.endpoint(), format!("s3://{BUCKET}/d"));
    let mount = |path: &'static str| {
        ["mount", "add", path, &uri, "--endpoint", &endpoint, "--region", "us-east-1"].map(str::to_owned)
    };
    let run = |words: [String; 8], more: &'static str| {
        let lake = &lake;
        async move {
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            words.extend((!more.is_empty()).then_some(more));
            lake.ok(&words).await
        }
    };
    run(mount("/frozen"), "--read-only").await?;
    for command in [["fs", "mv", "/frozen/x", "/other"], ["fs", "mv", "/lake/d/x", "/frozen"]] {
        let text = lake.fails(5, &command).await?;
        ensure!(text.contains("mounted read-only") && text.contains("hint: "), "{text}");
    }
    ensure!(!is_there(&lake, "/other/x").await?);

    // One object under two names: a copy onto itself and a delete would be its end.
    run(mount("/again"), "").await?;
    lake.ok(&["fs", "ls", "/again"]).await?;
    for command in [["fs", "mv", "/lake/d/x", "/again/x"], ["fs", "mv", "/again/x", "/lake/d"]] {
        let text = lake.fails(2, &command).await?;
        ensure!(text.contains("are the same in their store"), "{text}");
    }
    lake.check("/lake/d/x", seeded, 1000).await?;

    // The same where the store is a directory of this machine.
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("x"), "content")?;
    lake.ok(&["mount", "add", "/disk", &format!("file://{}", dir.path().display())]).await?;
    let local = place(&dir.path().join("x"));
    for command in [["fs", "mv", "/disk/x", &local], ["fs", "mv", &local, "/disk/x"]] {
        let text = lake.fails(2, &command).await?;
        ensure!(text.contains("are the same in their store"), "{text}");
    }
    ensure!(std::fs::read(dir.path().join("x"))? == b"content");
    lake.ok(&["fs", "mv", "/disk/x", &place(&dir.path().join("y"))]).await?;
    ensure!(std::fs::read(dir.path().join("y"))? == b"content" && !is_there(&lake, "/disk/x").await?);
    Ok(())
}

/// Moves while an object's PUT is held, and does something meanwhile. How the move ended, and what it told.
async fn move_meanwhile(
    lake: &Lake,
    command: &[&str],
    meanwhile: impl AsyncFnOnce(&mut tokio::process::Child) -> Result<()>,
) -> Result<(Option<i32>, String)> {
    let hold = lake.proxy.hold(When::put());
    let mut moving = lake.cluster.command(command).stderr(Stdio::piped()).spawn()?;
    hold.reached(DEADLINE).await?;
    meanwhile(&mut moving).await?;
    drop(hold);
    lake.proxy.clear();
    let output = moving.wait_with_output().await?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_moved_stays() -> Result<()> {
    let lake = two_mounts().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("f");
    std::fs::write(&path, "before")?;
    let local = place(&path);
    let command = ["fs", "mv", &local, "/lake/f"];
    let (code, told) = move_meanwhile(&lake, &command, async |_| Ok(std::fs::write(&path, "after")?)).await?;
    ensure!(code == Some(7) && told.contains("changed while it was moved: it stays"), "{code:?}: {told}");
    ensure!(std::fs::read(&path)? == b"after" && lake.cat("/lake/f").await? == b"before");
    lake.ok(&["fs", "mv", &local, "/lake/f"]).await?;
    ensure!(!path.exists() && lake.cat("/lake/f").await? == b"after");

    // The same in the tree: a file and, of a tree, a file and a directory that came later.
    std::fs::write(&path, "before")?;
    lake.ok(&["fs", "mkdir", "-p", "/other/t/sub"]).await?;
    for target in ["/other/f", "/other/t/f"] {
        lake.ok(&["fs", "cp", &local, target]).await?;
    }
    std::fs::write(&path, "after")?;
    let (code, told) = move_meanwhile(&lake, &["fs", "mv", "/other/f", "/lake/g"], async |_| {
        lake.ok(&["fs", "cp", &local, "/other/f"]).await.map(drop)
    })
    .await?;
    ensure!(code == Some(7) && told.contains("/other/f changed while it was moved: it stays"), "{code:?}: {told}");
    ensure!(lake.cat("/other/f").await? == b"after" && lake.cat("/lake/g").await? == b"before");
    let (code, told) = move_meanwhile(&lake, &["fs", "mv", "/other/t", "/lake/t"], async |_| {
        lake.ok(&["fs", "mkdir", "/other/t/late"]).await?;
        lake.ok(&["fs", "cp", &local, "/other/t/late/new"]).await.map(drop)
    })
    .await?;
    // What came before the walk was there has gone along.
    match is_there(&lake, "/lake/t/late/new").await? {
        true => ensure!(code == Some(0) && !is_there(&lake, "/other/t").await?, "{code:?}: {told}"),
        false => {
            ensure!(code == Some(1) && told.contains("something was put there while it was moved"), "{code:?}: {told}");
            ensure!(lake.cat("/other/t/late/new").await? == b"after", "{told}");
        }
    }
    ensure!(lake.cat("/lake/t/f").await? == b"before" && !is_there(&lake, "/other/t/f").await?);
    Ok(())
}

#[tokio::test]
async fn a_move_that_fails_half_way_leaves_its_source_whole() -> Result<()> {
    let lake = two_mounts().await?;
    let dir = tempfile::tempdir()?;
    let tree = dir.path().join("t");
    std::fs::create_dir(&tree)?;
    let seeded = write_seeded(&tree.join("large"), 40 << 20)?;
    std::fs::write(tree.join("small"), "small")?;
    let from = place(&tree);
    // A part in the middle of a file is refused, and the other file goes.
    let rule = lake.proxy.inject(When::upload_part().after(1), Fault::Status(403, "AccessDenied"));
    let soon = ["--set", "client.deadline=15s", "fs", "mv"];
    let text = lake.fails(5, &[&soon[..], &[&from, "/lake"]].concat()).await?;
    ensure!(text.contains("cannot move") && lake.proxy.struck(rule) > 0, "{text}");
    lake.proxy.clear();
    ensure!(seeded.check(0, &std::fs::read(tree.join("large"))?).is_ok(), "the source is whole");
    ensure!(!tree.join("small").exists() && lake.cat("/lake/t/small").await? == b"small");
    ensure!(!is_there(&lake, "/lake/t/large").await?, "no half target");
    // Goes on where it stopped.
    lake.ok(&["fs", "mv", "--merge", &from, "/lake"]).await?;
    lake.check("/lake/t/large", seeded, 40 << 20).await?;
    ensure!(!tree.exists());

    // From the tree, where the source's delete has to be kept back too: a store that fails the PUT of a move between mounts.
    lake.ok(&["fs", "mv", "/lake/t", "/other/t"]).await?;
    lake.proxy.inject(When::upload_part().after(1), Fault::Status(403, "AccessDenied"));
    lake.fails(5, &[&soon[..], &["/other/t/large", "/lake/large"]].concat()).await?;
    lake.proxy.clear();
    lake.check("/other/t/large", seeded, 40 << 20).await?;
    ensure!(!is_there(&lake, "/lake/large").await?);
    Ok(())
}

#[tokio::test]
async fn an_interrupted_move_leaves_its_source_whole() -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let lake = two_mounts().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("f");
    // Of several parts: a small file's only PUT is its end.
    let seeded = write_seeded(&path, 40 << 20)?;
    let (code, told) = move_meanwhile(&lake, &["fs", "mv", &place(&path), "/lake/f"], async |moving| {
        let pid = moving.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        kill_process(pid, Signal::INT)?;
        moving.wait().await?;
        Ok(())
    })
    .await?;
    ensure!(code == Some(130), "{code:?}: {told}");
    seeded.check(0, &std::fs::read(&path)?)?;
    forebay_testkit::wait::until("the write to be abandoned", DEADLINE, || async {
        !is_there(&lake, "/lake/f").await.unwrap_or(true)
    })
    .await
}

#[tokio::test]
async fn a_tree_is_moved_but_for_what_cannot_be() -> Result<()> {
    let lake = two_mounts().await?;
    let dir = tempfile::tempdir()?;
    let (tree, elsewhere) = (dir.path().join("tree"), dir.path().join("elsewhere"));
    std::fs::create_dir_all(tree.join("sub"))?;
    std::fs::create_dir(&elsewhere)?;
    for number in 0..5 {
        std::fs::write(tree.join(format!("sub/file-{number}")), format!("content {number}"))?;
    }
    std::fs::write(elsewhere.join("kept"), "behind a link")?;
    symlink("../elsewhere/kept", tree.join("link"))?;
    symlink(&elsewhere, tree.join("linked"))?;
    symlink("/nowhere", tree.join("dangling"))?;
    let output = lake.run(&["fs", "mv", "--json", &place(&tree), "/lake"]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    for what in ["dangling", "linked", "link to a directory"] {
        ensure!(told.contains(what), "{what} is not told: {told}");
    }
    // What was moved is moved; of a link the content was copied and the link removed, never what it leads to.
    ensure!(lake.cat("/lake/tree/link").await? == b"behind a link");
    ensure!(lake.ok(&["fs", "count", "/lake/tree"]).await?.split_whitespace().nth(1) == Some("6"));
    let mut left: Vec<_> = std::fs::read_dir(&tree)?.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    ensure!(left == ["dangling", "linked"], "{left:?}");
    ensure!(std::fs::read(elsewhere.join("kept"))? == b"behind a link");

    // One that is being written stays, and is told.
    let client = Client::connect(ClientConfig::new([lake.cluster.masters()])).await?;
    let mut writer = client.create(&NsPath::parse(b"/lake/tree/open")?, Default::default()).await?;
    writer.write("half of it").await?;
    let told = lake.fails(7, &["fs", "mv", "/lake/tree", "/other"]).await?;
    ensure!(told.contains("/lake/tree/open is being written: it stays"), "{told}");
    writer.close().await?;
    ensure!(lake.cat("/lake/tree/open").await? == b"half of it");
    ensure!(lake.ok(&["fs", "ls", "/lake/tree"]).await? == "open\n");
    Ok(())
}
