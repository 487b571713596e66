//! What directories of ours have in common: a format that is checked before anything else is touched, and files that are there whole or not at all.
//! One process at a time uses them: [`FileLock`](crate::FileLock).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory, and what is missing above it, for its owner alone (mode 0700). One that is there stays as it is. The names of all that
/// is made are durable when this returns: what is synced in a directory whose name is lost is lost with it.
pub fn create_private(path: &Path) -> io::Result<()> {
    make(path)?;
    let mut above = path;
    while let Some(parent) = above.parent() {
        sync_again(parent_of(above))?;
        above = parent;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    let make_one = || fs::DirBuilder::new().mode(0o700).create(path);
    match make_one() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(parent_of(path))?;
            match make_one() {
                // Another thread was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
            sync_names_in(parent_of(path))
        }
        Err(_) if path.is_dir() => Ok(()),
        made => made.and_then(|()| sync_names_in(parent_of(path))),
    }
}

/// Makes it durable what is in a directory, by name.
pub fn sync_names_in(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Perhaps one that died made a directory here and did not come to the sync. Where that cannot be done, it was somebody else.
fn sync_again(parent: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    match sync_names_in(parent) {
        Err(error) if [InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported].contains(&error.kind()) => {
            Ok(())
        }
        synced => synced,
    }
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(if path.has_root() { "/" } else { "." }))
}

/// Writes a file aside (`NAME.new`), syncs it and renames it, so that after a crash it is there whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let written = (|| {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        // On a full disk it would take space for nothing.
        let _ = fs::remove_file(&aside);
    }
    written?;
    sync_names_in(parent_of(path))
}

/// Why a format is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Written by a newer version.
    #[error("format {found}")]
    Newer {
        /// The number.
        found: u32,
    },
    /// Something else.
    #[error("{text:?} is no format")]
    Foreign {
        /// How the file begins.
        text: String,
    },
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Checks the file `path`, which says `PREFIX NUMBER`, and makes it when it is missing.
pub fn check_format(path: &Path, prefix: &str, newest: u32) -> Result<(), FormatError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(write_whole(path, format!("{prefix}{newest}\n").as_bytes(), 0o644)?);
        }
        Err(error) => return Err(error.into()),
    };
    match text.trim().strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok()) {
        Some(found) if found > newest => Err(FormatError::Newer { found }),
        Some(1..) => Ok(()),
        _ => Err(FormatError::Foreign { text: text.trim().chars().take(40).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::Dir;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_whole_or_as_before() {
        let dir = Dir::new("whole");
        let path = dir.path().join("secret.key");
        write_whole(&path, b"one", 0o600).unwrap();
        write_whole(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
        fs::create_dir(dir.path().join("directory")).unwrap();
        write_whole(&dir.path().join("directory"), b"x", 0o600).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nor after a failure");
    }

    #[test]
    fn directories_are_made_with_all_above_them_for_their_owner_alone() {
        let dir = Dir::new("private");
        let path = dir.path().join("one/two/three");
        for _ in 0..2 {
            create_private(&path).unwrap();
        }
        for made in path.ancestors().take(3) {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
        fs::write(path.join("file"), "").unwrap();
        for refused in ["file", "file/below"] {
            assert!(create_private(&path.join(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn formats_are_told_apart() {
        let dir = Dir::new("format");
        let path = dir.path().join("format");
        check_format(&path, "ours ", 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours 2\n");
        check_format(&path, "ours ", 3).unwrap();
        assert!(matches!(check_format(&path, "ours ", 1), Err(FormatError::Newer { found: 2 })));
        for text in ["", "2", "ours 0", "ours x", "theirs 1"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(check_format(&path, "ours ", 2), Err(FormatError::Foreign { .. })), "{text:?}");
        }
    }
}
