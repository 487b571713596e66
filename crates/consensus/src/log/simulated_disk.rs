//! A disk in memory that can crash: what was not synced is then kept, lost or torn, write by write and name by name.

#![allow(unreachable_pub, dead_code)] // The tests of this crate see a part of it, and the simulation another one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_vtime::Chance;
use parking_lot::Mutex;

use super::disk::{Disk, DiskFile};

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not synced, in order: the name, and its file from then on.
    name_changes: Vec<(PathBuf, Option<usize>)>,
    /// Writing operations so far, and at which one the machine stops.
    operations: u64,
    stops_at: Option<u64>,
    /// Called when it does.
    on_stop: Option<Box<dyn FnOnce() + Send>>,
    /// Operations that fail although the machine goes on: from the first number on, so many.
    full_from: Option<u64>,
    syncs: u64,
}

#[derive(Clone, Default)]
struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, bytes_max: usize) {
        match self {
            Change::Write(offset, bytes) => {
                let bytes = &bytes[..bytes.len().min(bytes_max)];
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if to.len() < end && !bytes.is_empty() {
                    to.resize(end, 0);
                }
                if !bytes.is_empty() {
                    to[start..end].copy_from_slice(bytes);
                }
            }
            Change::Length(length) => to.resize(*length as usize, 0),
        }
    }
}

impl SimulatedDisk {
    /// The machine will stop before the writing operation `count` operations from now.
    pub fn stop_after(&self, count: u64) {
        let mut content = self.content.lock();
        content.stops_at = Some(content.operations + count);
    }

    /// Calls `then` when it has stopped, once.
    pub fn on_stop(&self, then: impl FnOnce() + Send + 'static) {
        self.content.lock().on_stop = Some(Box::new(then));
    }

    /// It goes on as far as it has not stopped yet.
    pub fn never_stop(&self) {
        self.content.lock().stops_at = None;
    }

    /// Somebody has made room.
    pub fn make_room(&self) {
        self.content.lock().full_from = None;
    }

    /// Writes and syncs fail from `count` operations on.
    pub fn full_after(&self, count: u64) {
        let mut content = self.content.lock();
        content.full_from = Some(content.operations + count);
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.content.lock().syncs
    }

    /// What another machine finds on this disk after a power failure.
    pub fn after_crash(&self, chance: &mut Chance) -> SimulatedDisk {
        let old = self.content.lock();
        let mut new = Content::default();
        for file in &old.files {
            let mut bytes = file.durable.clone();
            for change in &file.unsynced {
                match chance.below(4) {
                    0 => {}
                    1 => change.apply(&mut bytes, chance.below(200) as usize),
                    _ => change.apply(&mut bytes, usize::MAX),
                }
            }
            new.files.push(File { current: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        }
        new.durable_names = old.durable_names.clone();
        for (path, file) in &old.name_changes {
            if chance.below(2) == 0 {
                set_name(&mut new.durable_names, path, *file);
            }
        }
        new.names = new.durable_names.clone();
        SimulatedDisk { content: Arc::new(Mutex::new(new)) }
    }

    /// What a new process finds after `kill -9`: all that was written.
    pub fn after_kill(&self) -> SimulatedDisk {
        let old = self.content.lock();
        let mut new = Content {
            files: old.files.clone(),
            names: old.names.clone(),
            durable_names: old.durable_names.clone(),
            name_changes: old.name_changes.clone(),
            ..Content::default()
        };
        new.operations = 0;
        SimulatedDisk { content: Arc::new(Mutex::new(new)) }
    }

    /// Changes the bytes of a file behind everybody's back.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content.lock();
        let file = content.names[path];
        let file = &mut content.files[file];
        change(&mut file.current);
        file.durable = file.current.clone();
        file.unsynced.clear();
    }

    /// The paths there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.content.lock().names.keys().cloned().collect()
    }

    /// What a file holds now.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let content = self.content.lock();
        content.files[content.names[path]].current.clone()
    }
}

impl Content {
    /// Counts a writing operation; an error when the machine has stopped or the disk is full.
    fn operation(&mut self) -> io::Result<()> {
        if self.stops_at.is_some_and(|at| self.operations >= at) {
            if let Some(then) = self.on_stop.take() {
                then();
            }
            return Err(io::Error::other("the machine has stopped"));
        }
        self.operations += 1;
        match self.full_from {
            Some(from) if self.operations > from => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, path: &Path, file: Option<usize>) {
        set_name(&mut self.names, path, file);
        self.name_changes.push((path.to_owned(), file));
    }
}

fn set_name(names: &mut BTreeMap<PathBuf, usize>, path: &Path, file: Option<usize>) {
    match file {
        Some(file) => names.insert(path.to_owned(), file),
        None => names.remove(path),
    };
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let content = self.content.lock();
        let paths = content.names.keys().filter(|path| path.parent() == Some(dir));
        let names = paths.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut content = self.content.lock();
        content.operation()?;
        let file = content.files.len();
        content.files.push(File::default());
        content.rename(path, Some(file));
        Ok(self.handle(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.content.lock();
        let file = *content.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut content = self.content.lock();
        content.operation()?;
        let file = *content.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        content.rename(to, Some(file));
        content.rename(from, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut content = self.content.lock();
        content.operation()?;
        if !content.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        content.rename(path, None);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut content = self.content.lock();
        content.operation()?;
        content.name_changes.clear();
        content.durable_names = content.names.clone();
        Ok(())
    }
}

impl SimulatedDisk {
    fn handle(&self, file: usize) -> Arc<dyn DiskFile> {
        Arc::new(Handle { content: self.content.clone(), file })
    }
}

struct Handle {
    content: Arc<Mutex<Content>>,
    file: usize,
}

impl Handle {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut content = self.content.lock();
        let result = content.operation();
        let full = result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull);
        if result.is_err() && !full {
            return result;
        }
        let file = &mut content.files[self.file];
        // A full disk takes a part of a write.
        let change = match change {
            Change::Write(offset, bytes) if full => Change::Write(offset, bytes[..bytes.len() / 2].to_vec()),
            other => other,
        };
        change.apply(&mut file.current, usize::MAX);
        file.unsynced.push(change);
        result
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().files[self.file].current.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock();
        let start = offset as usize;
        let bytes = content.files[self.file].current.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.content.lock();
        content.operation()?;
        content.syncs += 1;
        let file = &mut content.files[self.file];
        file.durable = file.current.clone();
        file.unsynced.clear();
        Ok(())
    }
}
