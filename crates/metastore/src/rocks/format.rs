//! The format number of a store's directory: a file of one decimal number beside RocksDB's own.

use crate::{Result, StoreError};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const NAME: &str = "FORMAT";

/// Refuses a directory that a newer version wrote. A directory without a number is new, or its maker died before writing it.
pub(super) fn check(directory: &Path) -> Result<()> {
    let text = match fs::read_to_string(directory.join(NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(directory, &error)),
    };
    let found = text.trim().parse().map_err(|_| StoreError::Corrupt {
        directory: directory.to_owned(),
        what: format!("the file {NAME} holds {text:?}, which is no number"),
    })?;
    if found > FORMAT {
        return Err(StoreError::NewerFormat { directory: directory.to_owned(), found, supported: FORMAT });
    }
    Ok(())
}

/// Whether the store of a directory has been made to its end.
pub(super) fn is_written(directory: &Path) -> bool {
    directory.join(NAME).exists()
}

/// Writes the number, durably, unless it is there.
pub(super) fn write(directory: &Path) -> Result<()> {
    if is_written(directory) {
        return Ok(());
    }
    write_new(directory).map_err(|error| io_error(directory, &error))
}

fn write_new(directory: &Path) -> io::Result<()> {
    let unfinished = directory.join("FORMAT.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

fn io_error(directory: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { directory: directory.to_owned(), what: error.to_string() }
}
