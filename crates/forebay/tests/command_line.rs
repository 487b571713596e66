//! Every command as a user types it, against a server process and a real S3 server.

mod common;

use anyhow::Result;
use common::{BUCKET, Lake, Shape, program, write_seeded};
use forebay_testkit::data::Seeded;

#[tokio::test]
async fn lists_and_stats_what_the_store_has() -> Result<()> {
    let lake = Lake::embedded().await?;
    for key in ["t/part-0", "t/part-1", "t/sub/part-2", "odd name %41+é"] {
        lake.put_seeded(key, 100).await?;
    }
    assert_eq!(lake.ok(&["fs", "ls", "/"]).await?, "lake/\n");
    assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, "odd name %41+é\nt/\n");
    assert_eq!(
        lake.ok(&["fs", "ls", "-R", "/lake/t"]).await?,
        "/lake/t/part-0\n/lake/t/part-1\n/lake/t/sub/\n/lake/t/sub/part-2\n"
    );
    assert_eq!(lake.ok(&["fs", "ls", "/lake/t/part-*"]).await?, "/lake/t/part-0\n/lake/t/part-1\n");
    assert_eq!(lake.ok(&["fs", "ls", "/lake/**/part-2"]).await?, "/lake/t/sub/part-2\n");
    let entries = lake.json(&["fs", "ls", "--json", "/lake/t"]).await?;
    assert_eq!(entries.len(), 3);
    assert_eq!((&entries[0]["path"], &entries[0]["length"]), (&"/lake/t/part-0".into(), &100.into()));
    let stat = lake.json(&["fs", "stat", "--json", "/lake/t/part-0"]).await?;
    assert_eq!((&stat[0]["kind"], &stat[0]["persisted"]), (&"file".into(), &true.into()));
    assert!(lake.ok(&["fs", "stat", "/lake/t"]).await?.contains("directory"));
    let long = lake.ok(&["fs", "ls", "-lh", "/lake/t/part-0"]).await?;
    let columns: Vec<_> = long.split_whitespace().collect();
    assert!(columns[0].starts_with("-r") && columns[1..3] == ["-", "-"] && columns.len() == 6, "{long}");
    assert!(lake.ok(&["fs", "ls", "--help"]).await?.contains("Usage"));
    // One path that is missing does not hide the others.
    let output = lake.run(&["fs", "ls", "/lake/nothing", "/lake/t/part-0"]).await?;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"/lake/t/part-0\n".as_slice()));
    Ok(())
}

#[tokio::test]
async fn reads_whole_files_starts_and_ends() -> Result<()> {
    let lake = Lake::embedded().await?;
    let length = 3 * (1 << 20) + 17;
    let seeded = lake.put_seeded("big", length).await?;
    lake.check("/lake/big", seeded, length).await?;
    let head = lake.run(&["fs", "head", "-c", "1000", "/lake/big"]).await?.stdout;
    assert_eq!(head, seeded.bytes(0..1000));
    let tail = lake.run(&["fs", "tail", "-c", "1000", "/lake/big"]).await?.stdout;
    assert_eq!(tail, seeded.bytes(length - 1000..length));
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    lake.store.client().put(BUCKET, "text", text).await?;
    assert_eq!(lake.ok(&["fs", "head", "-n", "2", "/lake/text"]).await?, "line 0\nline 1\n");
    assert_eq!(lake.ok(&["fs", "tail", "-n", "2", "/lake/text"]).await?, "line 19998\nline 19999\n");
    assert_eq!(lake.ok(&["fs", "tail", "-n", "+19999", "/lake/text"]).await?, "line 19998\nline 19999\n");
    assert_eq!(lake.ok(&["fs", "tail", "-c", "+208885", "/lake/text"]).await?, "19999\n");
    lake.store.client().put(BUCKET, "empty", "").await?;
    assert_eq!(lake.cat("/lake/empty").await?, b"");
    assert_eq!(lake.ok(&["fs", "tail", "/lake/empty"]).await?, "");
    Ok(())
}

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
    lake.fails(1, &["fs", "cp", "/lake/tree", "/lake/x"]).await?;
    lake.fails(1, &["fs", "cp", "-r", "/lake/tree", "/lake/tree/a"]).await?;
    let text = lake.fails(1, &["fs", "cp", &other_path, "/lake/new/"]).await?;
    assert!(text.contains("/lake/new/ is not a directory"), "{text}");
    let text = lake.fails(3, &["fs", "cp", &dir.path().join("other").to_string_lossy(), "/lake/tree"]).await?;
    assert!(text.contains("hint: ") && text.contains("file:"), "{text}");
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
    forebay_testkit::wait::until("the file to be there", common::DEADLINE, || async {
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
async fn an_interrupt_ends_a_command_that_is_blocked() -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let lake = Lake::embedded().await?;
    lake.put_seeded("x", 4 << 20).await?;
    // Nobody reads the pipe.
    let mut cat = lake.cluster.command(&["fs", "cat", "/lake/x"]).stdout(std::process::Stdio::piped()).spawn()?;
    let _unread = cat.stdout.take();
    let pid = cat.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    let blocked = || async {
        std::fs::read_to_string(format!("/proc/{}/wchan", pid.as_raw_nonzero())).is_ok_and(|w| w.contains("pipe"))
    };
    forebay_testkit::wait::until("the command to be blocked", common::DEADLINE, blocked).await?;
    kill_process(pid, Signal::TERM)?;
    kill_process(pid, Signal::INT)?;
    let code = tokio::time::timeout(common::DEADLINE, cat.wait()).await??.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn moves_removes_makes_counts() -> Result<()> {
    let lake = Lake::embedded().await?;
    let seeded = lake.put_seeded("d/x", 1000).await?;
    lake.put_seeded("d/y", 24).await?;
    assert_eq!(lake.json(&["fs", "du", "--json", "/lake/d"]).await?[0]["length"], 1024);
    let count = lake.json(&["fs", "count", "--json", "/lake/d"]).await?;
    assert_eq!((&count[0]["files"], &count[0]["directories"]), (&2.into(), &1.into()));

    lake.ok(&["fs", "mv", "/lake/d/x", "/lake/d/z"]).await?;
    lake.check("/lake/d/z", seeded, 1000).await?;
    assert!(lake.store.client().head(BUCKET, "d/x").await?.is_none());
    lake.ok(&["fs", "mv", "/lake/d", "/lake/e"]).await?;
    lake.check("/lake/e/z", seeded, 1000).await?;
    lake.fails(3, &["fs", "stat", "/lake/d/z"]).await?;

    lake.ok(&["fs", "mkdir", "-p", "/lake/n/m"]).await?;
    lake.ok(&["fs", "mv", "/lake/e/z", "/lake/n"]).await?;
    lake.check("/lake/n/z", seeded, 1000).await?;
    lake.fails(4, &["fs", "mkdir", "/lake/n"]).await?;
    let text = lake.fails(3, &["fs", "mkdir", "/lake/no/parent"]).await?;
    assert!(text.contains("--parents"), "{text}");
    let text = lake.fails(3, &["fs", "mv", "/lake/n/z", "/lake/no/parent"]).await?;
    assert!(text.contains("no directory /lake/no") && text.contains("hint: "), "{text}");
    let moved = lake.json(&["fs", "mv", "--json", "/lake/n/z", "/lake/n/y"]).await?;
    assert_eq!((&moved[0]["path"], &moved[0]["from"]["path"]), (&"/lake/n/y".into(), &"/lake/n/z".into()));
    assert_eq!(lake.json(&["fs", "rm", "--json", "/lake/n/y"]).await?[0]["path"], "/lake/n/y");
    lake.fails(1, &["fs", "rm", "/lake/n"]).await?;
    lake.ok(&["fs", "rm", "-r", "/lake/n"]).await?;
    lake.fails(3, &["fs", "ls", "/lake/n"]).await?;
    lake.ok(&["fs", "rm", "-f", "/lake/n"]).await?;
    forebay_testkit::wait::until("the store to lose the objects", common::DEADLINE, || async {
        lake.store.client().list(BUCKET, "n/").await.is_ok_and(|objects| objects.is_empty())
    })
    .await
}

#[tokio::test]
async fn tells_scripts_by_exit_codes_and_people_by_hints() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.put_seeded("table/x", 10).await?;
    lake.put_seeded("hollow", 0).await?;
    lake.ok(&["fs", "ls", "/lake"]).await?;
    for (code, flag, path) in [
        (0, "-e", "/lake/table"),
        (0, "-d", "/lake/table"),
        (1, "-d", "/lake/table/x"),
        (0, "-f", "/lake/table/x"),
        (0, "-s", "/lake/table/x"),
        (1, "-s", "/lake/hollow"),
        (0, "-z", "/lake/hollow"),
        (1, "-e", "/lake/nothing"),
        (1, "-e", "/lake/hollow/below"),
    ] {
        let output = lake.run(&["fs", "test", flag, path]).await?;
        assert_eq!(output.status.code(), Some(code), "{flag} {path}");
    }
    let text = lake.fails(3, &["fs", "cat", "/lake/tabel/x"]).await?;
    assert!(text.contains("hint: did you mean /lake/table?"), "{text}");
    let text = lake.fails(3, &["mount", "remove", "/lakee"]).await?;
    assert!(text.contains("/lakee") && text.contains("did you mean /lake?"), "{text}");
    lake.fails(2, &["fs", "cat", "relative"]).await?;
    lake.fails(2, &["fs", "frobnicate"]).await?;
    lake.fails(3, &["fs", "cat", "/lake/nothing-*"]).await?;
    Ok(())
}

#[tokio::test]
async fn checksums_loads_frees_and_says_where() -> Result<()> {
    let lake = Lake::embedded().await?;
    let length = 5 << 20;
    lake.put_seeded("x", length).await?;
    let loaded = lake.json(&["fs", "load", "--json", "/lake"]).await?;
    assert_eq!((&loaded[0]["files"], &loaded[0]["loaded"]), (&1.into(), &length.into()));
    let location = lake.json(&["fs", "location", "--json", "/lake/x"]).await?;
    let ranges = location[0]["workers"][0]["ranges"].as_array().cloned().unwrap_or_default();
    assert_eq!(ranges.iter().filter_map(|range| range["length"].as_u64()).sum::<u64>(), length);

    lake.bytes_from_store();
    let sum = lake.ok(&["fs", "checksum", "-a", "crc32c", "/lake/x"]).await?;
    let expected = forebay_base::checksum::crc32c(&Seeded::named("x").bytes(0..length));
    assert_eq!(sum, format!("{expected:08x}  /lake/x\n"));
    assert_eq!(lake.bytes_from_store(), 0, "what is loaded is not fetched again");

    let freed = lake.json(&["fs", "free", "--json", "/lake/x"]).await?;
    assert_eq!(freed[0]["freed"], length);
    assert!(lake.ok(&["fs", "location", "/lake/x"]).await?.contains("not cached"));
    lake.check("/lake/x", Seeded::named("x"), length).await?;
    assert!(lake.bytes_from_store() >= length, "what was freed is fetched again");
    Ok(())
}

#[tokio::test]
async fn mounts_are_checked_listed_changed_and_removed() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.put_seeded("x", 10).await?;
    let dir = tempfile::tempdir()?;
    let seeded = write_seeded(&dir.path().join("f"), 77)?;
    let uri = format!("file://{}", dir.path().display());
    lake.ok(&["mount", "add", "/lake/inner", &uri, "--read-only"]).await?;
    lake.check("/lake/inner/f", seeded, 77).await?;
    assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, "inner/\nx\n");
    let text = lake.fails(5, &["fs", "rm", "/lake/inner/f"]).await?;
    assert!(text.contains("read-only"), "{text}");
    lake.ok(&["mount", "update", "/lake/inner", "--read-only", "false"]).await?;
    lake.ok(&["fs", "rm", "/lake/inner/f"]).await?;
    let mounts = lake.json(&["mount", "list", "--json"]).await?;
    assert_eq!(mounts.len(), 2);
    let text = lake.ok(&["mount", "list"]).await?;
    let secret = &lake.store.access().secret_key;
    assert!(!text.contains(secret.as_str()), "no secret is printed");

    let endpoint = lake.proxy.endpoint();
    let text = lake
        .fails(3, &["mount", "add", "/no", "s3://no-such-bucket", "--endpoint", &endpoint, "--region", "us-east-1"])
        .await?;
    assert!(text.contains("no-such-bucket"), "{text}");
    let text = lake.fails(2, &["mount", "add", "/no", "s4://bucket"]).await?;
    assert!(text.contains("s4") && text.contains("s3"), "{text}");
    // Nobody listens at port 1: said at once, and as what it is.
    let text = lake.fails(2, &["mount", "add", "/no", "s3://b", "--endpoint", "http://127.0.0.1:1"]).await?;
    assert!(text.contains("127.0.0.1:1") && text.contains("--skip-check") && !text.contains("no answer"), "{text}");
    let bad = ["mount", "add", "/no", "s3://b", "--endpoint", &endpoint, "--option", "max_reads=many"];
    let text = lake.fails(2, &bad).await?;
    assert!(text.contains("max_reads") && text.contains("1 to 100000"), "{text}");
    let text = lake.fails(2, &["mount", "add", "/no", &uri, "--option", "colour=red"]).await?;
    assert!(text.contains("colour"), "{text}");

    lake.ok(&["mount", "remove", "/lake/inner"]).await?;
    lake.ok(&["mount", "remove", "/lake"]).await?;
    lake.fails(3, &["fs", "stat", "/lake/x"]).await?;
    assert!(lake.store.client().head(BUCKET, "x").await?.is_some(), "the store keeps its objects");
    Ok(())
}

#[tokio::test]
async fn status_completions_and_manual() -> Result<()> {
    let lake = Lake::embedded().await?;
    let status = lake.json(&["status", "--json"]).await?;
    assert_eq!(status[0]["workers"][0]["live"], true);
    assert_eq!(status[0]["masters"][0]["leader"], true);
    let text = lake.ok(&["status"]).await?;
    for part in ["masters (1)", "workers (1 of 1 live)", "SSD", "mounts (1)", "/lake"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(lake.ok(&["completions", "bash"]).await?.contains("_forebay"));
    let dir = tempfile::tempdir()?;
    lake.ok(&["man", &dir.path().to_string_lossy()]).await?;
    assert!(dir.path().join("forebay-fs-cp.1").exists());
    Ok(())
}
