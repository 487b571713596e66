//! What `stat` says of a file, in the store's terms.

use crate::{ObjectKind, ObjectMeta};
use forebay_base::VersionTag;
use rustix::fs::Stat;

/// A file's metadata. Its tag is the text `mtime ns - length - inode - ctime ns`, in hexadecimal: every way to change a file changes one of them, but
/// for writes in place within one tick of the file system's clock that keep the length. Programs set the modification time as they like; the change time
/// nobody can set. It moves with a new name, owner or mode, too, which then counts as a change.
pub(super) fn file(stat: &Stat) -> ObjectMeta {
    let length = length(stat);
    let ns = |seconds: i64, ns| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    let (mtime, ctime) = (ns(stat.st_mtime, stat.st_mtime_nsec), ns(stat.st_ctime, stat.st_ctime_nsec));
    ObjectMeta {
        kind: ObjectKind::File,
        length,
        modified_ms: modified_ms(stat),
        tag: VersionTag(format!("{mtime:x}-{length:x}-{:x}-{ctime:x}", stat.st_ino)),
    }
}

/// Whether a file of the first tag has the second one after nothing but a rename, which moves its change time.
pub fn is_renamed(before: &VersionTag, after: &VersionTag) -> bool {
    let content = |tag: &VersionTag| tag.0.rsplit_once('-').map(|(content, _)| content.to_owned());
    content(before).is_some() && content(before) == content(after)
}

/// A directory's metadata.
pub(super) fn directory(stat: &Stat) -> ObjectMeta {
    ObjectMeta { modified_ms: modified_ms(stat), ..ObjectMeta::directory() }
}

/// Bytes of a file.
pub(super) fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Times before 1970 count as 1970.
fn modified_ms(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = stat.st_mtime_nsec;
    seconds.saturating_mul(1000) + nanos / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    #[test]
    fn bytes_that_are_replaced_under_their_old_time_are_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let (path, renamed) = (dir.path().join("a"), dir.path().join("b"));
        let tag = |path| file(&rustix::fs::stat(path).unwrap()).tag;
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let write = |bytes| {
            // A tick of the file system's clock later.
            std::thread::sleep(Duration::from_millis(20));
            fs::write(&path, bytes).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
            tag(&path)
        };
        let (first, second) = (write("aaaa"), write("bbbb"));
        assert_ne!(first, second);
        fs::rename(&path, &renamed).unwrap();
        let moved = tag(&renamed);
        assert!(is_renamed(&second, &moved));
        fs::write(&renamed, "cccc").unwrap();
        assert!(!is_renamed(&second, &tag(&renamed)));
        assert!(!is_renamed(&VersionTag(String::new()), &VersionTag(String::new())));
    }
}
