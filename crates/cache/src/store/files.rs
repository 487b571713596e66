//! Opening, making and unlinking cached files. All of it under the file's gate.

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
};
use forebay_base::FileId;
use std::{io, sync::Arc, sync::atomic::Ordering::Relaxed};

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
        debug_assert_eq!(pass.file(), file.file());
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
        let removed = disk::remove(&file.paths.sums).and_then(|()| disk::remove(&file.paths.data));
        if let Err(error) = removed {
            file.dir.note_write_error(&error);
        }
    }

    /// Unlinks a file that has no pages left and that nobody is about to fill.
    pub(crate) fn tidy(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) {
        if file.is_leased() || file.is_retired() || !matches!(disk::next_data(&file.data, 0), Ok(None)) {
            return;
        }
        if !self.has_entries(file) {
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

/// Opens both files and reads the header. What is damaged or incomplete is removed and not there.
fn open_from_disk(id: FileId, dir: &Arc<Dir>) -> io::Result<Option<OpenFile>> {
    let paths = layout::paths(&dir.path, id);
    let Some(sums) = if_there(disk::open(&paths.sums))? else {
        return Ok(None);
    };
    let data = if_there(disk::open(&paths.data))?;
    let mut bytes = [0; HEADER_LEN];
    let header = match disk::read_at(&paths.sums, &sums, &mut bytes, 0) {
        Ok(()) => Header::decode(&bytes).filter(|header| header.file == id),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error),
    };
    let (Some(data), Some(header)) = (data, header) else {
        disk::remove(&paths.sums)?;
        disk::remove(&paths.data)?;
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
    let made = make_files(&header, &paths);
    match made {
        Ok((data, sums)) => Ok(OpenFile::new(header, dir.clone(), paths, data, sums)),
        Err(error) => {
            // The first error is the one to tell.
            let _ = disk::remove(&paths.sums);
            let _ = disk::remove(&paths.data);
            Err(error)
        }
    }
}

fn make_files(header: &Header, paths: &layout::Paths) -> io::Result<(std::fs::File, std::fs::File)> {
    let data = match disk::create(&paths.data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&paths.leaf)?;
            disk::create(&paths.data)?
        }
        // Left by a process that died before it made the checksum file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk::remove(&paths.data)?;
            disk::create(&paths.data)?
        }
        other => other?,
    };
    let sums = disk::create(&paths.sums)?;
    disk::write_at(&paths.sums, &sums, &header.encode(), 0)?;
    Ok((data, sums))
}
