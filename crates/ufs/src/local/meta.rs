//! What `stat` says of a file, in the store's terms.

use crate::{ObjectKind, ObjectMeta};
use forebay_base::VersionTag;
use rustix::fs::Stat;

/// A file's metadata. Its tag is the text `mtime ns - length - inode`, in hexadecimal: every way to change a file changes one of them, but for writes in
/// place within one tick of the file system's clock that keep the length.
pub(super) fn file(stat: &Stat) -> ObjectMeta {
    let length = length(stat);
    let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    ObjectMeta {
        kind: ObjectKind::File,
        length,
        modified_ms: modified_ms(stat),
        tag: VersionTag(format!("{mtime_ns:x}-{length:x}-{:x}", stat.st_ino)),
    }
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
