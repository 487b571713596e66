//! Opening, making and unlinking cached files. All of it under the file's gate in the directory.

use super::Inner;
use crate::{
    dir::Dir,
    disk,
    gate::Pass,
    geometry::Geometry,
    index::ExtentKey,
    layout,
    open_files::OpenFile,
    sidecar::{HEADER_LEN, Header},
    waits::Wait,
};
use forebay_base::FileId;
use std::{fs::File, io, path::Path, sync::Arc, sync::atomic::Ordering::Relaxed};

impl Inner {
    /// The file in a directory, opened if it is there.
    pub(crate) fn file_in(&self, pass: &Pass<'_>, dir: &Arc<Dir>) -> Option<Arc<OpenFile>> {
        self.try_file_in(pass, dir).ok()?
    }

    /// Like [`Inner::file_in`]; an error when it cannot be known whether the file is there.
    pub(crate) fn try_file_in(&self, pass: &Pass<'_>, dir: &Arc<Dir>) -> io::Result<Option<Arc<OpenFile>>> {
        if let Some(file) = self.open.get(pass.file(), dir.number) {
            return Ok(Some(file));
        }
        let file = self.open_in(pass, dir)?.map(Arc::new);
        if let Some(file) = &file {
            self.open.insert(file);
        }
        Ok(file)
    }

    /// Like [`Inner::file_in`] for one look: does not keep it open.
    pub(crate) fn file_in_for_now(&self, pass: &Pass<'_>, dir: &Arc<Dir>) -> Option<Arc<OpenFile>> {
        let open = self.open.get(pass.file(), dir.number);
        open.or_else(|| self.open_in(pass, dir).ok()?.map(Arc::new))
    }

    fn open_in(&self, pass: &Pass<'_>, dir: &Arc<Dir>) -> io::Result<Option<OpenFile>> {
        if !dir.is_readable() {
            return Ok(None);
        }
        debug_assert!(pass.is_for(dir));
        open_from_disk(pass.file(), dir).inspect_err(|error| dir.note_read_error(error))
    }

    /// The file in a directory with this geometry, made if it is not there. None when the directory would not have it.
    pub(crate) fn file_or_new(&self, pass: &Pass<'_>, dir: &Arc<Dir>, geometry: Geometry) -> Option<Arc<OpenFile>> {
        if let Some(file) = self.try_file_in(pass, dir).ok()? {
            if file.geometry() == geometry {
                return Some(file);
            }
            self.retire(pass, &file);
        }
        let header = Header { file: pass.file(), geometry };
        match create_on_disk(header, dir) {
            Ok(file) => {
                let file = Arc::new(file);
                self.open.insert(&file);
                Some(file)
            }
            Err(error) => {
                dir.note_write_error(&error);
                None
            }
        }
    }

    /// Unlinks a file. Who holds it keeps its bytes, and their space counts until they let go.
    pub(crate) fn retire(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) {
        debug_assert!(pass.file() == file.file() && pass.is_for(&file.dir));
        file.set_retired();
        // Claims reach no further than the checksum file: it is made long enough before.
        for extent in 0..file.extents().unwrap_or(0) {
            let key = ExtentKey { file: file.file(), extent };
            let mut shard = self.index.lock(&key);
            let found = shard.find(&key).map(|(handle, entry)| (handle, entry.dir));
            if let Some((handle, _)) = found.filter(|(_, dir)| *dir == file.dir.number) {
                let entry = shard.remove(handle);
                drop(shard);
                file.orphaned.fetch_add(self.uncount(&entry), Relaxed);
            }
        }
        self.unlink(file);
    }

    /// Unlinks a file that no entry names.
    pub(crate) fn unlink(&self, file: &Arc<OpenFile>) {
        file.set_retired();
        self.open.remove(file);
        // The checksum file first: data without checksums is nothing.
        if let Err(error) = remove_both(&file.dir, &file.paths) {
            file.dir.note_write_error(&error);
        }
    }

    /// Unlinks a file that has no pages left and that nobody is about to fill.
    pub(crate) fn tidy(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) {
        if file.is_leased() || file.is_retired() {
            return;
        }
        let data = disk::next_data(&file.dir.at_disk(), &file.data, 0);
        if matches!(data, Ok(None)) && !self.has_entries(file) {
            self.retire(pass, file);
        }
    }

    fn has_entries(&self, file: &OpenFile) -> bool {
        let Ok(extents) = file.extents() else {
            return true;
        };
        (0..extents).any(|extent| self.has_entry(file, extent))
    }

    /// Whether an extent lies in this file.
    pub(crate) fn has_entry(&self, file: &OpenFile, extent: u32) -> bool {
        let key = ExtentKey { file: file.file(), extent };
        let mut shard = self.index.lock(&key);
        shard.find(&key).is_some_and(|(_, entry)| entry.dir == file.dir.number)
    }
}

/// The checksum file first: data without checksums is nothing.
fn remove_both(dir: &Dir, paths: &layout::Paths) -> io::Result<()> {
    disk::remove(&dir.at_disk(), &paths.sums)?;
    disk::remove(&dir.at_disk(), &paths.data)
}

/// Opens both files and reads the header. What is damaged or incomplete is removed and not there.
fn open_from_disk(id: FileId, dir: &Arc<Dir>) -> io::Result<Option<OpenFile>> {
    let (paths, wait) = (layout::paths(&dir.path, id), &dir.at_disk());
    let Some(sums) = if_there(disk::open(wait, &paths.sums))? else {
        return Ok(None);
    };
    let data = if_there(disk::open(wait, &paths.data))?;
    let mut bytes = [0; HEADER_LEN];
    let header = match disk::read_at(wait, &paths.sums, &sums, &mut bytes, 0) {
        Ok(()) => Header::decode(&bytes).filter(|header| header.file == id),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error),
    };
    let (Some(data), Some(header)) = (data, header) else {
        remove_both(dir, &paths)?;
        return Ok(None);
    };
    Ok(Some(OpenFile::new(header, dir.clone(), paths, data, sums)))
}

fn if_there<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn create_on_disk(header: Header, dir: &Arc<Dir>) -> io::Result<OpenFile> {
    let paths = layout::paths(&dir.path, header.file);
    match make_files(&header, dir, &paths) {
        Ok((data, sums)) => Ok(OpenFile::new(header, dir.clone(), paths, data, sums)),
        Err(error) => {
            // The first error is the one to tell.
            let _ = remove_both(dir, &paths);
            Err(error)
        }
    }
}

/// What it lies in is made when the directory is attached. If that is gone, somebody has removed the whole: nothing of it is made again without its
/// marker.
fn make_leaf(wait: &Wait<'_>, leaf: &Path) -> io::Result<()> {
    match disk::make_dir(wait, leaf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other("somebody has removed the cache directory"))
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn make_files(header: &Header, dir: &Dir, paths: &layout::Paths) -> io::Result<(File, File)> {
    let wait = &dir.at_disk();
    let data = match disk::create(wait, &paths.data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_leaf(wait, &paths.leaf)?;
            disk::create(wait, &paths.data)?
        }
        // Left by a process that died before it made the checksum file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk::remove(wait, &paths.data)?;
            disk::create(wait, &paths.data)?
        }
        other => other?,
    };
    let sums = disk::create(wait, &paths.sums)?;
    disk::write_at(wait, &paths.sums, &sums, &header.encode(), 0)?;
    Ok((data, sums))
}
