//! Finding out what an earlier process left.
//!
//! A file is loaded when it is first asked for; a scan in the background loads the rest. Until it is through, a page that the index does not have may still be there.

use super::Inner;
use crate::{
    dir::Dir,
    disk,
    gate::Pass,
    geometry::{EXTENT_OVERHEAD, space_of},
    index::{Entry, ExtentKey},
    layout::{self, Part},
    open_files::OpenFile,
    policy::Queue,
    sidecar::Record,
    verify::Source,
};
use forebay_base::FileId;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The pages of an extent that its records call valid.
struct Loaded {
    valid: u64,
    bytes: u32,
}

impl Inner {
    /// Whether pages of the file may be in a directory that the index does not know of.
    pub(crate) fn may_be_unloaded(&self, file: FileId) -> bool {
        self.dirs.iter().any(|dir| dir.needs_load(file))
    }

    /// Makes sure that the index knows what is cached of a file. *Blocking*; must not be called with a gate held.
    pub(crate) fn load(&self, file: FileId) {
        if !self.may_be_unloaded(file) {
            return;
        }
        for dir in &self.dirs {
            if dir.needs_load(file)
                && let Some(pass) = self.gates.enter(file, dir)
            {
                // Another may have loaded it meanwhile.
                if dir.needs_load(file) && self.load_from(&pass, dir) {
                    dir.set_loaded(file);
                }
            }
        }
    }

    /// Enters what a directory has of a file into the index, under the file's gate there. What of it cannot be read stays where it is until the next start.
    /// False when the directory is out of use by now.
    pub(super) fn load_from(&self, pass: &Pass<'_>, dir: &Arc<Dir>) -> bool {
        let Some(file) = self.file_in_for_now(pass, dir) else {
            return true;
        };
        if let Err(error) = self.load_extents(pass, &file) {
            dir.note_read_error(&error);
            return dir.is_readable();
        }
        if let Err(error) = self.punch_remains(&file) {
            dir.note_write_error(&error);
        }
        self.tidy(pass, &file);
        true
    }

    /// Gives space back that a process took which died before it could use it, or before it could give it back. Under the file's gate.
    fn punch_remains(&self, file: &OpenFile) -> io::Result<()> {
        let geometry = file.geometry();
        if file.is_leased() {
            return Ok(());
        }
        let mut at = 0;
        while let Some(data) = disk::next_data(&file.dir.at_disk(), &file.data, at)? {
            let Some(page) = geometry.page_of(data.start) else {
                break;
            };
            let extent = geometry.extent_of(page);
            self.punch_unused(file, extent)?;
            at = geometry.extent_range(extent).end;
        }
        Ok(())
    }

    fn load_extents(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) -> io::Result<()> {
        let geometry = file.geometry();
        let data_len = disk::len(&file.dir.at_disk(), &file.data)?;
        let sums_len = disk::len(&file.dir.at_disk(), &file.sums)?;
        let mut buf = Vec::new();
        let mut extent = 0;
        while extent < file.extents()? {
            let records = geometry.records_range(extent);
            // Blank stretches of the checksum file are holes.
            match disk::next_data(&file.dir.at_disk(), &file.sums, records.start)? {
                None => break,
                Some(data) if data.start >= records.end => {
                    extent = ((data.start - geometry.records_range(0).start) / (records.end - records.start)) as u32;
                    continue;
                }
                Some(_) => {}
            }
            buf.clear();
            buf.resize((records.end.min(sums_len) - records.start) as usize, 0);
            file.read_sums(&mut buf, records.start)?;
            let loaded = read_records(file, extent, &buf, data_len);
            if loaded.valid != 0 {
                self.adopt(pass, file, extent, &loaded);
            }
            extent += 1;
        }
        Ok(())
    }

    /// Enters a found extent into the index. One that the index has elsewhere was left by an interrupted move, and goes.
    fn adopt(&self, pass: &Pass<'_>, file: &Arc<OpenFile>, extent: u32, loaded: &Loaded) {
        let key = ExtentKey { file: file.file(), extent };
        let dir = &file.dir;
        // Before the index is asked: a copy that ends in between has its extent here.
        if self.incoming.leave(file, extent) {
            return;
        }
        let mut shard = self.index.lock(&key);
        match shard.find(&key).map(|(_, entry)| entry.dir) {
            Some(number) if number == dir.number => return,
            None if self.index.len() < self.settings.extents_max => {}
            _ => {
                drop(shard);
                self.give_back_extent(pass, file, extent, 0);
                return;
            }
        }
        let mut entry = Entry::new(key, dir.number, file.geometry().log2(), Queue::Main);
        entry.valid = loaded.valid;
        entry.bytes = loaded.bytes;
        let handle = shard.insert(entry);
        drop(shard);
        dir.extents.fetch_add(1, Relaxed);
        dir.pages.fetch_add(loaded.valid.count_ones() as i64, Relaxed);
        dir.found(loaded.bytes as u64 + EXTENT_OVERHEAD);
        dir.policy.lock().push(Queue::Main, handle.to_u64());
    }

    /// One step of the scan: a leaf directory.
    pub(crate) fn scan_leaf(&self, dir: &Arc<Dir>, leaf: u32) {
        let files = match files_in_leaf(dir, leaf) {
            Ok(files) => files,
            Err(error) => {
                dir.note_read_error(&error);
                return;
            }
        };
        for (file, parts) in files {
            if self.is_stopped() || !dir.is_readable() {
                return;
            }
            let Some(pass) = self.gates.enter(file, dir) else {
                return;
            };
            if dir.needs_load(file) {
                self.load_from(&pass, dir);
            }
            if !parts.contains(&Part::Sums) {
                self.remove_orphan(file, dir);
            }
        }
    }

    /// Removes a data file that has no checksum file: its maker died in between. Under the file's gate.
    fn remove_orphan(&self, file: FileId, dir: &Dir) {
        let paths = layout::paths(&dir.path, file);
        let wait = &dir.at_disk();
        if matches!(disk::exists(wait, &paths.sums), Ok(false))
            && let Err(error) = disk::remove(wait, &paths.data)
        {
            dir.note_write_error(&error);
        }
    }
}

fn files_in_leaf(dir: &Dir, leaf: u32) -> io::Result<HashMap<FileId, Vec<Part>>> {
    let mut files: HashMap<FileId, Vec<Part>> = HashMap::new();
    for name in disk::names_in(&dir.at_disk(), &layout::leaf(&dir.path, leaf))? {
        if let Some((file, part)) = layout::parse_name(&name) {
            files.entry(file).or_default().push(part);
        }
    }
    Ok(files)
}

fn read_records(file: &OpenFile, extent: u32, bytes: &[u8], data_len: u64) -> Loaded {
    let geometry = file.geometry();
    let mut loaded = Loaded { valid: 0, bytes: 0 };
    for (slot, bytes) in bytes.chunks(geometry.record_len()).enumerate() {
        let page = geometry.page_at(extent, slot as u32);
        let record = Record::decode(&file.header, page, bytes);
        let whole = record.filter(|record| geometry.page_offset(page) + record.length as u64 <= data_len);
        if let Some(record) = whole {
            loaded.valid |= 1 << slot;
            loaded.bytes += space_of(record.length) as u32;
        }
    }
    loaded
}
