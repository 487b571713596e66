//! `fs cp` as users type it: between the tree and local files, and within the tree.

use crate::common::{BUCKET, Lake, Shape, program, write_seeded};
use anyhow::Result;
use forebay_client::{Client, ClientConfig};
use forebay_testkit::data::Seeded;
#[tokio::test]
async fn copies_trees_both_ways_and_within() -> Result<()> {
    let lake = Lake::embedded().await?;
    let dir = tempfile::tempdir()?;
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b"))?;
    std::fs::create_dir_all(tree.join("hollow"))?;
    let sizes = [("one", 10), ("a/two", 70_000), ("a/b/three", 9 << 20), ("a/b/nothing", 0)];
    let seeds = sizes.map(|(name, length)| (name, length, write_seeded(&tree.join(name), length)));

    let local = tree.to_string_lossy().into_owned();
    lake.ok(&["fs", "cp", "-r", &format!("file:{local}"), "/lake"]).await?;
    for (name, length, seeded) in &seeds {
        let seeded = seeded.as_ref().expect("files were written");
        lake.check(&format!("/lake/tree/{name}"), *seeded, *length).await?;
        let stored = lake.store.client().get(BUCKET, &format!("tree/{name}")).await?;
        assert_eq!(stored, seeded.bytes(0..*length), "the store has what was copied");
    }
    assert_eq!(lake.ok(&["fs", "ls", "/lake/tree"]).await?, "a/\nhollow/\none\n");

    lake.ok(&["fs", "cp", "-r", "/lake/tree", "/lake/again"]).await?;
    let back = dir.path().join("back");
    lake.ok(&["fs", "cp", "-r", "/lake/again", &format!("file:{}", back.display())]).await?;
    for (name, length, seeded) in &seeds {
        assert_eq!(std::fs::read(back.join(name))?, seeded.as_ref().expect("written").bytes(0..*length));
    }
    assert!(back.join("hollow").is_dir());
    let left: Vec<_> = std::fs::read_dir(&back)?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "no temporary files stay: {left:?}");

    // An existing file is replaced, unless it shall be left alone.
    let other = write_seeded(&dir.path().join("other"), 5)?;
    let other_path = format!("file:{}", dir.path().join("other").display());
    lake.ok(&["fs", "cp", "-n", &other_path, "/lake/tree/one"]).await?;
    lake.check("/lake/tree/one", *seeds[0].2.as_ref().expect("written"), 10).await?;
    lake.ok(&["fs", "cp", &other_path, "/lake/tree/one"]).await?;
    lake.check("/lake/tree/one", other, 5).await?;
    lake.fails(2, &["fs", "cp", "/lake/tree", "/lake/x"]).await?;
    lake.fails(2, &["fs", "cp", "-r", "/lake/tree", "/lake/tree/a"]).await?;
    // What lies above the target is not made, for files and directories, on both sides.
    let nowhere = format!("file:{}/no/such/x", dir.path().display());
    for command in [
        &["fs", "cp", other_path.as_str(), "/lake/no/such/x"][..],
        &["fs", "cp", "-r", "/lake/tree", "/lake/no/such/x"],
        &["fs", "cp", "/lake/tree/one", &nowhere],
        &["fs", "cp", "-r", "/lake/tree", &nowhere],
    ] {
        let text = lake.fails(3, command).await?;
        assert!(text.contains("no directory ") && text.contains("/no/such\n") && text.contains("mkdir -p "), "{text}");
    }
    lake.fails(3, &["fs", "stat", "/lake/no"]).await?;
    assert!(!dir.path().join("no").exists());
    let text = lake.fails(1, &["fs", "cp", other_path.as_str(), "/lake/tree/one/x"]).await?;
    assert!(text.contains("/lake/tree/one is a file"), "{text}");
    let text = lake.fails(3, &["fs", "cp", &other_path, "/lake/new/"]).await?;
    assert!(text.contains("no directory /lake/new/"), "{text}");
    let text = lake.fails(3, &["fs", "cp", &dir.path().join("other").to_string_lossy(), "/lake/tree"]).await?;
    assert!(text.contains("hint: ") && text.contains("file:"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_tree_is_copied_but_for_what_cannot_be() -> Result<()> {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let lake = Lake::embedded().await?;
    let dir = tempfile::tempdir()?;
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub"))?;
    std::fs::create_dir_all(dir.path().join("elsewhere"))?;
    for number in 0..12 {
        std::fs::write(tree.join(format!("sub/file-{number}")), format!("content {number}"))?;
    }
    std::fs::write(dir.path().join("elsewhere/inner"), "behind a link")?;
    symlink("sub/file-3", tree.join("link"))?;
    symlink(dir.path().join("elsewhere"), tree.join("linked"))?;
    let from = format!("file:{}", tree.display());
    lake.ok(&["fs", "cp", "-r", &from, "/lake"]).await?;
    assert_eq!(lake.cat("/lake/tree/link").await?, b"content 3");
    assert_eq!(lake.cat("/lake/tree/linked/inner").await?, b"behind a link");

    // Each of these is told, and the rest is copied.
    symlink("/nowhere", tree.join("dangling"))?;
    symlink(&tree, tree.join("sub/upwards"))?;
    std::fs::write(tree.join(std::ffi::OsStr::from_bytes(b"not-\xff-utf8")), "x")?;
    let pipe = tree.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)?;
    let output = lake.run(&["fs", "cp", "-r", &from, "/lake/second"]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "{told}");
    for what in ["dangling", "upwards", "utf8", "pipe"] {
        assert!(told.contains(what), "{what} is not told: {told}");
    }
    assert_eq!(lake.ok(&["fs", "count", "/lake/second"]).await?.split_whitespace().nth(1), Some("14"));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("14 files"), "{output:?}");

    // Out again, where one directory cannot be made and one file cannot be written.
    let back = dir.path().join("back");
    std::fs::create_dir_all(back.join("second/link"))?;
    std::fs::write(back.join("second/linked"), "in the way")?;
    let output = lake.run(&["fs", "cp", "-r", "/lake/second", &format!("file:{}", back.display())]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success()
            && told.contains("second/link:")
            && told.contains("second/linked")
            && !told.contains("inner"),
        "{told}"
    );
    assert_eq!(std::fs::read_dir(back.join("second/sub"))?.count(), 12);
    lake.fails(3, &["fs", "cp", &format!("file:{}", dir.path().join("nothing").display()), "/lake/x"]).await?;
    Ok(())
}

#[tokio::test]
async fn files_that_are_being_written_are_left_out_of_trees() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.put_seeded("t/done", 1000).await?;
    let client = Client::connect(ClientConfig::new([lake.cluster.masters()])).await?;
    let mut writer = client.create("/lake/t/open", Default::default()).await?;
    writer.write("half of it").await?;
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    let output = lake.run(&["fs", "cp", "-r", "/lake/t", &format!("file:{}", out.display())]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("note: /lake/t/open"), "{told}");
    assert_eq!(std::fs::metadata(out.join("done"))?.len(), 1000);
    assert!(!out.join("open").exists());
    let loaded = lake.json(&["fs", "load", "--json", "/lake/t"]).await?;
    assert_eq!((&loaded[0]["files"], &loaded[0]["loaded"]), (&1.into(), &1000.into()));
    assert_eq!(lake.ok(&["fs", "checksum", "/lake/t"]).await?.lines().count(), 1);
    lake.fails(1, &["fs", "cp", "/lake/t/open", &format!("file:{}", out.display())]).await?;
    writer.abandon().await?;
    Ok(())
}

#[tokio::test]
async fn copies_into_pipes_links_and_files_that_are_there() -> Result<()> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let lake = Lake::embedded().await?;
    let seeded = lake.put_seeded("x", 100_000).await?;
    let expected = seeded.bytes(0..100_000);
    let dir = tempfile::tempdir()?;
    let place = |name: &str| format!("file:{}", dir.path().join(name).display());

    assert!(lake.run(&["fs", "cp", "/lake/x", "-"]).await?.stdout == expected, "nothing but the file is printed");
    lake.ok(&["fs", "cp", "/lake/x", "file:/dev/null"]).await?;
    assert!(std::fs::metadata("/dev/null")?.file_type().is_char_device(), "a device stays one");

    // A pipe between two commands: neither knows the length.
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    let pipe = place("pipe");
    let (into, out) = (["fs", "cp", "/lake/x", &pipe], ["fs", "cp", &pipe, "/lake/through"]);
    let (into, out) = tokio::join!(lake.ok(&into), lake.ok(&out));
    into?;
    out?;
    lake.check("/lake/through", seeded, 100_000).await?;

    // A file system in memory is no device.
    let memory = tempfile::Builder::new().prefix("forebay-test-").tempdir_in("/dev/shm")?;
    std::fs::write(memory.path().join("longer"), vec![1; 200_000])?;
    for name in ["longer", "new"] {
        let target = memory.path().join(name);
        lake.ok(&["fs", "cp", "/lake/x", &format!("file:{}", target.display())]).await?;
        assert!(std::fs::read(target)? == expected, "{name}");
    }

    std::fs::write(dir.path().join("private"), "old")?;
    std::fs::set_permissions(dir.path().join("private"), std::fs::Permissions::from_mode(0o600))?;
    symlink("private", dir.path().join("link"))?;
    lake.ok(&["fs", "cp", "/lake/x", &place("link")]).await?;
    assert!(dir.path().join("link").is_symlink(), "a link is followed");
    assert!(std::fs::read(dir.path().join("private"))? == expected);
    assert_eq!(std::fs::metadata(dir.path().join("private"))?.permissions().mode() & 0o777, 0o600);
    symlink("nowhere", dir.path().join("broken"))?;
    lake.fails(1, &["fs", "cp", "/lake/x", &place("broken")]).await?;
    Ok(())
}

#[tokio::test]
async fn an_interrupted_copy_leaves_nothing() -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::AsyncWriteExt;
    let lake = Lake::embedded().await?;
    let mut copy = lake.cluster.command(&["fs", "cp", "-", "/lake/x"]).stdin(std::process::Stdio::piped()).spawn()?;
    let mut stdin = copy.stdin.take().expect("it is piped");
    stdin.write_all(&vec![7; 40 << 20]).await?;
    forebay_testkit::wait::until("the file to be there", crate::common::DEADLINE, || async {
        lake.ok(&["fs", "test", "-e", "/lake/x"]).await.is_ok()
    })
    .await?;
    let pid = copy.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    kill_process(pid, Signal::INT)?;
    assert_eq!(copy.wait().await?.code(), Some(130));
    lake.fails(3, &["fs", "stat", "/lake/x"]).await?;
    assert!(lake.store.client().list(BUCKET, "").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_copy_replaces_what_others_put_there_meanwhile() -> Result<()> {
    let lake = Lake::start(Shape { mount_flags: vec!["--sync-interval", "never"], ..Shape::default() }).await?;
    let dir = tempfile::tempdir()?;
    let seeded = write_seeded(&dir.path().join("new"), 5000)?;
    let from = format!("file:{}", dir.path().join("new").display());
    lake.put_seeded("changed", 10).await?;
    lake.ok(&["fs", "ls", "/lake"]).await?;
    lake.store.client().put(BUCKET, "changed", "something else").await?;
    lake.put_seeded("unseen", 10).await?;
    lake.ok(&["fs", "cp", "-n", &from, "/lake/unseen"]).await?;
    let kept = lake.store.client().get(BUCKET, "unseen").await?;
    assert_eq!(kept, Seeded::named("unseen").bytes(0..10), "it is left alone");
    lake.store.client().put(BUCKET, "unseen-2", "something else").await?;
    for path in ["/lake/changed", "/lake/unseen-2"] {
        lake.ok(&["fs", "cp", &from, path]).await?;
        lake.check(path, seeded, 5000).await?;
    }
    // What came through a pipe cannot be read again: the conflict is told, and nothing is replaced by the empty rest.
    lake.store.client().put(BUCKET, "changed", "once more").await?;
    let command = format!(
        "printf new | {} --masters {} fs cp file:/dev/fd/0 /lake/changed",
        program().display(),
        lake.cluster.masters()
    );
    let output = tokio::process::Command::new("sh").args(["-c", &command]).output().await?;
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lake.store.client().get(BUCKET, "changed").await?.as_ref(), b"once more");
    Ok(())
}

#[tokio::test]
async fn a_local_path_that_was_taken_for_one_of_the_tree_is_told() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.put_seeded("d/sub/x", 10).await?;
    let before = lake.ok(&["fs", "ls", "-R", "/"]).await?;
    let text = lake.fails(2, &["fs", "cp", "-r", "/lake/d", "/backup"]).await?;
    assert!(text.contains("lies in no mount") && text.contains("file:/backup is the local path"), "{text}");
    assert_eq!(lake.ok(&["fs", "ls", "-R", "/"]).await?, before, "no directory was made for nothing");
    // Where the tree has no such directory and this machine has.
    let dir = tempfile::tempdir()?;
    let local = dir.path().join("x").display().to_string();
    let text = lake.fails(3, &["fs", "cp", "/lake/d/sub/x", &local]).await?;
    assert!(text.contains(&format!("file:{local} is the local path")) && text.contains("mkdir -p"), "{text}");
    let text = lake.fails(3, &["fs", "cp", "/lake/d/sub/x", "/lake/nodir/"]).await?;
    assert!(text.contains("hint: "), "{text}");
    // Above a mount it may be right.
    lake.ok(&["fs", "cp", "-r", "/lake/d/sub", "/lake/d/other"]).await?;
    Ok(())
}
