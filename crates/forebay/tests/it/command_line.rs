//! Every command as a user types it, against a server process and a real S3 server.

use crate::common::{BUCKET, DEADLINE, Lake, Shape, program, write_seeded};
use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_testkit::{
    cluster::{Cluster, Layout, Tier},
    data::Seeded,
    s3::Versitygw,
};

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
    assert_eq!(lake.ok(&["fs", "ls", "-lah", "/lake/t/part-0"]).await?, long);
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
    assert_eq!(lake.ok(&["fs", "head", "-2", "/lake/text"]).await?, "line 0\nline 1\n");
    assert_eq!(lake.ok(&["fs", "tail", "/lake/text", "-2"]).await?, "line 19998\nline 19999\n");
    assert_eq!(lake.ok(&["fs", "tail", "-n", "+19999", "/lake/text"]).await?, "line 19998\nline 19999\n");
    assert_eq!(lake.ok(&["fs", "tail", "-c", "+208885", "/lake/text"]).await?, "19999\n");
    lake.store.client().put(BUCKET, "empty", "").await?;
    assert_eq!(lake.cat("/lake/empty").await?, b"");
    assert_eq!(lake.ok(&["fs", "tail", "/lake/empty"]).await?, "");
    Ok(())
}

#[tokio::test]
async fn content_comes_as_json_too() -> Result<()> {
    let lake = Lake::embedded().await?;
    let length = (768 << 10) * 2 + 5;
    let seeded = lake.put_seeded("big", length).await?;
    for (command, range) in [
        (vec!["fs", "cat", "--json", "/lake/big"], 0..length),
        (vec!["fs", "head", "--json", "-c", "1000", "/lake/big"], 0..1000),
        (vec!["fs", "tail", "--json", "-c", "1000", "/lake/big"], length - 1000..length),
    ] {
        let (mut at, mut text) = (range.start, String::new());
        for piece in lake.json(&command).await? {
            assert_eq!((&piece["path"], &piece["offset"]), (&"/lake/big".into(), &at.into()), "{command:?}");
            at += piece["length"].as_u64().unwrap();
            text += piece["content_base64"].as_str().unwrap();
        }
        assert_eq!(at, range.end, "{command:?}");
        assert!(BASE64_STANDARD.decode(text)? == seeded.bytes(range), "{command:?}");
    }
    lake.store.client().put(BUCKET, "empty", "").await?;
    let empty = lake.json(&["fs", "cat", "--json", "/lake/empty"]).await?;
    assert_eq!((empty.len(), &empty[0]["length"], &empty[0]["content_base64"]), (1, &0.into(), &"".into()));
    lake.fails(3, &["fs", "cat", "--json", "/lake/nothing"]).await?;
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
    forebay_testkit::wait::until("the command to be blocked", crate::common::DEADLINE, blocked).await?;
    kill_process(pid, Signal::TERM)?;
    kill_process(pid, Signal::INT)?;
    let code = tokio::time::timeout(crate::common::DEADLINE, cat.wait()).await??.code();
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
    forebay_testkit::wait::until("the store to lose the objects", crate::common::DEADLINE, || async {
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
    let text = lake.fails(1, &["fs", "rm", "/lake/table"]).await?;
    assert!(text.contains("is not empty") && text.contains("--recursive"), "{text}");
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
async fn a_load_of_more_than_fits_is_told() -> Result<()> {
    let lake = Lake::start(Shape { tiers: vec![Tier::ssd("cache", "64MiB")], ..Shape::default() }).await?;
    for key in 0..12 {
        lake.put_seeded(&format!("t/{key}"), 8 << 20).await?;
    }
    // One after the other: what is on its way cannot make room.
    let output = lake.run(&["fs", "load", "--json", "--parallel", "1", "/lake/t"]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("not all of it stays cached") && told.contains("of 96MiB"), "{told}");
    assert!(told.contains("hold 64MiB in all") && told.contains("worker.tiers"), "{told}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&summary["files"], &summary["loaded"]), (&12.into(), &(96 << 20).into()));
    assert!(summary["dropped"].as_u64() >= Some(32 << 20), "{summary}");
    // What fits is no failure.
    lake.ok(&["fs", "free", "/lake/t"]).await?;
    let loaded = lake.json(&["fs", "load", "--json", "--parallel", "1", "/lake/t/1*"]).await?;
    assert_eq!((&loaded[0]["files"], &loaded[0]["dropped"]), (&3.into(), &0.into()));
    Ok(())
}

#[tokio::test]
async fn what_is_waited_for_is_told() -> Result<()> {
    let mount_flags = vec!["--sync-interval", "0", "--option", "deadline=1s"];
    let lake = Lake::start(Shape { mount_flags, ..Shape::default() }).await?;
    lake.proxy.refuse();
    let waited = |arguments: &'static [&'static str]| {
        let arguments = [&["--set", "client.deadline=6s"], arguments].concat();
        let lake = &lake;
        async move { lake.fails(6, &arguments).await }
    };
    let told = waited(&["fs", "stat", "/lake/x"]).await?;
    let notes: Vec<_> = told.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 1, "once: {told}");
    assert!(notes[0].starts_with("note: still waiting for the masters (") && notes[0].contains("s3://lake"), "{told}");
    assert!(notes[0].ends_with("; giving up after 6s") && told.contains("error: "), "{told}");
    // Programs read JSON there.
    let told = waited(&["fs", "stat", "--json", "/lake/x"]).await?;
    assert!(told.lines().count() == 1 && serde_json::from_str::<serde_json::Value>(&told).is_ok(), "{told}");
    let told = waited(&["fs", "load", "--quiet", "/lake/x"]).await?;
    assert!(!told.contains("still waiting"), "{told}");
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
    let asked = std::time::Instant::now();
    let text = lake.fails(6, &["mount", "add", "/no", "s3://b", "--endpoint", "http://127.0.0.1:1"]).await?;
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(45),
        "the client does not ask again: {:?}",
        asked.elapsed()
    );
    assert!(text.contains("127.0.0.1:1") && text.contains("--skip-check") && !text.contains("no answer"), "{text}");
    let bad = ["mount", "add", "/no", "s3://b", "--endpoint", &endpoint, "--option", "max_reads=many"];
    let text = lake.fails(2, &bad).await?;
    assert!(text.contains("max_reads") && text.contains("1 to 100000"), "{text}");
    let text = lake.fails(2, &["mount", "add", "/no", &uri, "--option", "colour=red"]).await?;
    assert!(text.contains("colour"), "{text}");
    let twice = ["mount", "add", "/no", &uri, "--region", "a", "--option", "region=b"];
    let text = lake.fails(2, &twice).await?;
    assert!(text.contains("region is given twice"), "{text}");

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
    for (shell, part) in [("bash", "_forebay()"), ("zsh", "#compdef forebay"), ("fish", "complete -c forebay")] {
        let script = lake.ok(&["completions", shell]).await?;
        assert!(script.contains(part) && script.contains("location"), "{shell}: {script}");
    }
    let dir = tempfile::tempdir()?;
    lake.ok(&["man", &dir.path().to_string_lossy()]).await?;
    let mut pages = 0;
    for page in std::fs::read_dir(dir.path())? {
        let (path, text) = page.and_then(|page| Ok((page.path(), std::fs::read_to_string(page.path())?)))?;
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}: {text}", path.display());
        pages += 1;
    }
    assert!(pages >= 30, "{pages}");
    let page = std::fs::read_to_string(dir.path().join("forebay-fs-cp.1"))?;
    assert!(page.contains("recursive") && page.contains("forebay"), "{page}");
    assert!(lake.ok(&["man"]).await?.contains(".TH forebay 1"));
    Ok(())
}

#[tokio::test]
async fn ls_with_sync_asks_the_store_now() -> Result<()> {
    let lake = Lake::start(Shape { mount_flags: vec!["--sync-interval", "never"], ..Shape::default() }).await?;
    lake.put_seeded("a", 1).await?;
    assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, "a\n");
    lake.put_seeded("b", 1).await?;
    lake.store.client().delete(BUCKET, "a").await?;
    assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, "a\n", "never is never");
    assert_eq!(lake.ok(&["fs", "ls", "--sync", "/lake"]).await?, "b\n");
    assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, "b\n");
    Ok(())
}

/// The limits of names and paths, and of keys of a store, each told by the one who has it.
#[tokio::test]
async fn names_have_limits_that_are_told() -> Result<()> {
    let lake = Lake::embedded().await?;
    let name = |length: usize| "n".repeat(length);
    lake.ok(&["fs", "mkdir", &format!("/{}", name(255))]).await?;
    let text = lake.fails(2, &["fs", "mkdir", &format!("/{}", name(256))]).await?;
    assert!(text.contains("256 bytes") && text.contains("at most 255"), "{text}");
    // Sixteen names of 255 bytes are 4,096 with their slashes: one byte less is the longest path.
    let path = |length: usize| {
        let text = format!("/{}", name(255)).repeat(16);
        text[..length].to_owned()
    };
    lake.ok(&["fs", "mkdir", "-p", &path(4095)]).await?;
    let text = lake.fails(2, &["fs", "mkdir", "-p", &path(4096)]).await?;
    assert!(text.contains("4096 bytes") && text.contains("at most 4095"), "{text}");
    // What the tree can hold, S3 may not: its keys have 1,024 bytes.
    let below = |length: usize| format!("/lake{}", &path(length + 1));
    let dir = tempfile::tempdir()?;
    let seeded = write_seeded(&dir.path().join("f"), 10)?;
    let local = format!("file:{}", dir.path().join("f").display());
    // versitygw keeps objects as files, whose paths it bounds itself: 900 bytes are well within.
    lake.ok(&["fs", "mkdir", "-p", &below(750)]).await?;
    let file = format!("{}/{}", below(750), name(150));
    lake.ok(&["fs", "cp", &local, &file]).await?;
    lake.check(&file, seeded, 10).await?;
    for command in [&["fs", "mkdir", "-p"][..], &["fs", "cp", &local]] {
        let target = below(1100);
        let text = lake.fails(2, &[command, &[target.as_str()]].concat()).await?;
        assert!(text.contains("1024"), "{command:?}: {text}");
    }
    assert!(lake.store.client().list(BUCKET, "").await?.iter().all(|object| object.key.len() <= 1024));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_as_shells_expect() -> Result<()> {
    let lake = Lake::embedded().await?;
    lake.put_seeded("big", 20 << 20).await?;
    for arguments in [&["fs", "cat", "/lake/big"][..], &["completions", "bash"]] {
        let mut command = lake.cluster.command(arguments);
        let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output().await?;
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}: quietly");
    }
    Ok(())
}

/// Where the keys of a mount come from, and what is said and kept of them.
#[tokio::test]
async fn credentials_are_given_in_several_ways_and_never_shown() -> Result<()> {
    let store = Versitygw::start().await?;
    store.create_bucket(BUCKET).await?;
    store.client().put(BUCKET, "x", "content").await?;
    let access = store.access().clone();
    let dir = tempfile::tempdir()?;
    let profiles = dir.path().join("credentials");
    let (id, secret) = (&access.access_key, &access.secret_key);
    std::fs::write(&profiles, format!("[lake]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"))?;
    // The servers have a file of profiles and no keys; everything that they can say is logged.
    let environment = [
        ("AWS_SHARED_CREDENTIALS_FILE", profiles.display().to_string()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let mut cluster = Cluster::start(Layout {
        program: Some(program()),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        extra_toml: "log.level = \"trace\"".to_owned(),
        ..Layout::default()
    })
    .await?;
    let flags = ["--endpoint", &access.endpoint, "--region", &access.region];
    let uri = format!("s3://{BUCKET}");
    let add = |path: &str, more: &[&str]| {
        let mut command = cluster.command(&["mount", "add", path, &uri]);
        command.args(flags).args(more);
        command
    };
    // Without keys it is refused, unless nobody looks.
    let refused = add("/none", &[]).output().await?;
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(5) && text.contains("no credentials"), "{text}");
    assert!(add("/unchecked", &["--skip-check"]).output().await?.status.success());
    assert!(!cluster.cli(&["fs", "cat", "/unchecked/x"]).await?.status.success());
    assert!(add("/profile", &["--profile", "lake"]).output().await?.status.success());
    let missing = add("/stored", &["--store-credentials"]).env_remove("AWS_ACCESS_KEY_ID").output().await?;
    let text = String::from_utf8_lossy(&missing.stderr);
    assert!(missing.status.code() == Some(2) && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    let stored = add("/stored", &["--store-credentials", "--json"]).envs(access.environment()).output().await?;
    let said = String::from_utf8_lossy(&stored.stdout).into_owned() + &String::from_utf8_lossy(&stored.stderr);
    assert!(stored.status.success(), "{said}");
    let option = format!("secret_access_key={secret}");
    let given = add("/given", &["-o", &format!("access_key_id={id}"), "-o", &option]).output().await?;
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    for path in ["/profile/x", "/stored/x", "/given/x"] {
        assert_eq!(cluster.cli_ok(&["fs", "cat", path]).await?, "content");
    }
    // An option that is taken back is not used any more.
    cluster.cli_ok(&["mount", "update", "/profile", "--unset-option", "profile", "--skip-check"]).await?;
    let listed = cluster.cli_ok(&["mount", "list", "--json"]).await?;
    let without = listed.lines().find(|line| line.contains("\"/profile\"")).unwrap_or_default();
    assert!(!without.contains("lake\"}") && without.contains("endpoint"), "{without}");
    // Stored ones are there after a restart, and readable nowhere.
    cluster.master().terminate(DEADLINE).await?;
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    cluster.cli_ok(&["fs", "free", "/stored/x"]).await?;
    assert_eq!(cluster.cli_ok(&["fs", "cat", "/stored/x"]).await?, "content");
    let log = cluster.master().process().log();
    assert!(log.contains("TRACE"), "the log says all that it can");
    let status = cluster.cli_ok(&["status", "--json"]).await?;
    for (what, text) in [("the log", &log), ("a reply", &said), ("the list", &listed), ("the status", &status)] {
        assert!(!text.contains(secret.as_str()), "{what} has the secret");
    }
    let data = cluster.master().dir().join("data");
    for file in files(&data)? {
        let bytes = std::fs::read(&file)?;
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} has the secret", file.display());
    }
    // Without the key that sealed them they are lost, and that is what is said.
    cluster.master().terminate(DEADLINE).await?;
    std::fs::write(data.join("master/secret.key"), [7; 32])?;
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    let lost = cluster.cli(&["fs", "ls", "--sync", "/stored"]).await?;
    let text = String::from_utf8_lossy(&lost.stderr);
    assert!(text.contains("secret.key") && text.contains("/stored"), "{text}");
    assert_eq!(lost.status.code(), Some(8), "{text}");
    Ok(())
}

fn files(directory: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}
