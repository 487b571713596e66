//! The file system that loses what was not synced, as processes see it.

use anyhow::{Context, Result, ensure};
use forebay_testkit::lossy_fs::LossyFs;
use forebay_testkit::process::Process;
use forebay_testkit::wait;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    Ok(names)
}

/// Puts a file in place of another as it is to be done.
fn replace(dir: &Path, content: &str) -> Result<()> {
    let (new, path) = (dir.join("new"), dir.join("file"));
    let mut file = File::create(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_data()?;
    fs::rename(&new, &path)?;
    sync_dir(dir)
}

#[test]
fn what_is_synced_stays_and_what_is_not_goes() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let dir = lossy.path();
    fs::write(dir.join("nothing-synced"), "a")?;
    fs::write(dir.join("name-only"), "b")?;
    let mut both = File::create(dir.join("both"))?;
    both.write_all(b"synced")?;
    both.sync_data()?;
    sync_dir(&dir)?;
    both.write_all(b" and more")?;
    let mut bytes_only = File::create(dir.join("bytes-only"))?;
    bytes_only.write_all(b"c")?;
    bytes_only.sync_all()?;
    fs::remove_file(dir.join("nothing-synced"))?;
    drop((both, bytes_only));
    assert_eq!(names(&dir)?, ["both", "bytes-only", "name-only"]);
    lossy.lose_all_unsynced()?;
    assert_eq!(names(&dir)?, ["both", "name-only", "nothing-synced"]);
    assert_eq!(fs::read(dir.join("both"))?, b"synced");
    assert_eq!(fs::read(dir.join("name-only"))?, b"");
    Ok(())
}

#[test]
fn renames_links_and_removals_last_from_the_sync_of_their_directory_on() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let dir = lossy.path();
    let (left, right) = (dir.join("left"), dir.join("right"));
    for made in [&left, &right] {
        fs::create_dir(made)?;
    }
    replace(&left, "old")?;
    sync_dir(&right)?;
    sync_dir(&dir)?;
    fs::write(left.join("new"), "new")?;
    fs::rename(left.join("new"), left.join("file"))?;
    fs::hard_link(left.join("file"), right.join("second"))?;
    assert_eq!(fs::metadata(right.join("second"))?.nlink(), 2);
    lossy.lose_all_unsynced()?;
    assert_eq!((fs::read_to_string(left.join("file"))?, names(&right)?), ("old".to_owned(), vec![]));

    fs::hard_link(left.join("file"), right.join("second"))?;
    fs::remove_file(left.join("file"))?;
    sync_dir(&right)?;
    lossy.lose_all_unsynced()?;
    assert_eq!((names(&left)?, names(&right)?), (vec!["file".to_owned()], vec!["second".to_owned()]));
    assert_eq!(fs::metadata(right.join("second"))?.nlink(), 2);

    // Whichever of the two is synced, the rename is there whole.
    for synced in [&left, &right] {
        fs::rename(left.join("file"), right.join("moved"))?;
        sync_dir(synced)?;
        lossy.lose_all_unsynced()?;
        assert_eq!((names(&left)?, names(&right)?), (vec![], vec!["moved".to_owned(), "second".to_owned()]));
        fs::rename(right.join("moved"), left.join("file"))?;
        sync_dir(synced)?;
    }
    fs::remove_dir_all(&right)?;
    sync_dir(&dir)?;
    lossy.lose_all_unsynced()?;
    assert_eq!(names(&dir)?, ["left"]);
    Ok(())
}

/// A directory whose own name was not synced takes with it what was synced in it.
#[test]
fn a_directory_without_a_durable_name_is_lost_with_all_in_it() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let dir = lossy.path();
    fs::create_dir(dir.join("unsynced"))?;
    replace(&dir.join("unsynced"), "content")?;
    lossy.lose_all_unsynced()?;
    assert_eq!(names(&dir)?, Vec::<String>::new());
    Ok(())
}

/// The power goes at each change of a replacement, with many seeds: the old content or the new one is there, and after its end the new one.
#[test]
fn a_file_that_is_replaced_with_care_is_never_torn() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let dir = lossy.path().join("dir");
    fs::create_dir(&dir)?;
    sync_dir(&lossy.path())?;
    replace(&dir, "0")?;
    let mut current = "0".to_owned();
    for seed in 0..300 {
        let next = format!("{seed} ").repeat(500);
        lossy.unplug_after(seed % 8)?;
        let done = replace(&dir, &next);
        assert_eq!(done.is_err(), lossy.is_unplugged()? && seed % 8 < 5, "seed {seed}: {done:?}");
        lossy.power_cut(seed)?;
        let found = fs::read_to_string(dir.join("file"))?;
        ensure!(found == next || (found == current && done.is_err()), "seed {seed}: {done:?}, then {found:?}");
        current = found;
    }
    Ok(())
}

/// The same without one of the two syncs: power cuts find it.
#[test]
fn power_cuts_find_a_sync_that_is_left_out() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let dir = lossy.path();
    let without_file_sync = |content: &str| -> Result<()> {
        fs::write(dir.join("new"), content)?;
        fs::rename(dir.join("new"), dir.join("file"))?;
        sync_dir(&dir)
    };
    let without_directory_sync = |content: &str| -> Result<()> {
        let mut file = File::create(dir.join("new"))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        Ok(fs::rename(dir.join("new"), dir.join("file"))?)
    };
    let (mut torn, mut forgotten) = (0, 0);
    for seed in 0..50 {
        let content = format!("{seed} ").repeat(1000);
        without_file_sync(&content)?;
        lossy.power_cut(seed)?;
        torn += u64::from(fs::read(dir.join("file"))? != content.as_bytes());
        without_directory_sync(&format!("{seed}"))?;
        lossy.power_cut(seed)?;
        forgotten += u64::from(fs::read_to_string(dir.join("file"))? != format!("{seed}"));
    }
    ensure!(torn > 5 && forgotten > 5, "torn {torn}, forgotten {forgotten}");
    Ok(())
}

#[test]
fn the_same_seed_loses_the_same() -> Result<()> {
    let run = || -> Result<Vec<(String, Vec<u8>)>> {
        let lossy = LossyFs::mount()?;
        let dir = lossy.path();
        for round in 0..20 {
            for index in 0..5 {
                let mut file = File::create(dir.join(format!("{round}-{index}")))?;
                file.write_all(&[round + 1; 3_000])?;
            }
            fs::rename(dir.join(format!("{round}-0")), dir.join("zero"))?;
            lossy.power_cut(round.into())?;
        }
        let read = |name: &String| Ok((name.clone(), fs::read(dir.join(name))?));
        names(&dir)?.iter().map(read).collect()
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

/// What RocksDB, the log and the page store ask of a file system.
#[test]
fn holes_promised_space_locks_maps_and_direct_reads_work() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let path = lossy.path().join("file");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let call = |mode, offset, length| {
        // SAFETY: a descriptor that is open and three numbers.
        unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) }
    };
    assert_eq!(call(libc::FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
    assert_eq!(file.metadata()?.len(), 0);
    file.write_all_at(&[5; 3 * 4096], 4096)?;
    assert_eq!(call(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 8192, 4096), 0);
    assert_eq!(call(0, 0, 20_000), 0);
    assert_eq!((file.metadata()?.len(), file.metadata()?.blocks()), (20_000, 16));
    file.sync_all()?;
    sync_dir(&lossy.path())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    // SAFETY: a descriptor that is open and numbers; the second lock is of another open file.
    let lock = |file: &File| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    assert_eq!((lock(&file), lock(&File::open(&path)?)), (0, -1));
    assert_eq!(seek(&file, libc::SEEK_DATA, 0), 4096);
    assert_eq!(seek(&file, libc::SEEK_HOLE, 4096), 8192);
    file.seek(SeekFrom::Start(0))?;
    drop(file);
    lossy.lose_all_unsynced()?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600, "the new mode was not synced");
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path)?;
    assert_eq!(direct.metadata()?.blocks(), 16);
    let content = fs::read(&path)?;
    assert_eq!(content.len(), 20_000);
    assert!(content[4096..8192].iter().chain(&content[12288..16384]).all(|byte| *byte == 5));
    assert!(content[..4096].iter().chain(&content[8192..12288]).all(|byte| *byte == 0));
    Ok(())
}

fn seek(file: &File, whence: i32, from: i64) -> i64 {
    // SAFETY: a descriptor that is open and two numbers.
    unsafe { libc::lseek(file.as_raw_fd(), from, whence) }
}

/// A process writes until it is killed; others do not see the file system, and it is gone with the value.
#[tokio::test]
async fn a_process_runs_on_it_and_is_killed() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let outside = tempfile::tempdir()?;
    let script = outside.path().join("write.sh");
    fs::write(
        &script,
        "#!/bin/sh\ncd \"$1\"; echo first > a; sync a .; i=0; while :; do i=$((i+1)); echo $i > b; echo $i; done\n",
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(lossy.program(&script)?);
    command.arg(lossy.point()).current_dir(outside.path());
    let mut process = Process::start("writer", command, &outside.path().join("log"))?;
    let written = || std::future::ready(process.log().lines().count() > 20);
    wait::until("some writes", Duration::from_secs(20), written).await.with_context(|| process.log())?;
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", process.pid()))?.trim(), "write.sh");
    process.kill()?;
    assert_eq!(names(&lossy.path())?, ["a", "b"]);
    lossy.lose_all_unsynced()?;
    assert_eq!(
        (names(&lossy.path())?, fs::read_to_string(lossy.path().join("a"))?),
        (vec!["a".into()], "first\n".into())
    );
    let point = lossy.point();
    if lossy.path() != point {
        assert_eq!(names(&point)?, Vec::<String>::new(), "only those see it who are meant to");
    }
    drop(lossy);
    assert!(!point.exists());
    Ok(())
}

/// Somebody still has a file open: no power cut, and a reason.
#[test]
fn a_power_cut_under_open_files_is_refused() -> Result<()> {
    let lossy = LossyFs::mount()?;
    let file = File::create(lossy.path().join("file"))?;
    let refused = lossy.power_cut(1).unwrap_err();
    assert!(format!("{refused:#}").contains("still uses the file system"), "{refused:#}");
    drop(file);
    Ok(())
}
