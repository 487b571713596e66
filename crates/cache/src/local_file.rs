//! The other side of a lease: how a client reads a cached file whose descriptors it was given.

use crate::{
    geometry::Geometry,
    sidecar::{HEADER_LEN, Header},
    verify::{self, RecordBytes, Source},
};
use forebay_base::FileId;
use std::{fs::File, io, ops::Range, os::fd::OwnedFd, os::unix::fs::FileExt};

/// A cached file on this host, read through its descriptors. Believes nothing but the checksums: what is not cached there, was dropped, or is damaged
/// is a miss, and must be asked of the worker.
pub struct LocalFile {
    header: Header,
    data: File,
    sums: File,
}

/// Descriptors that are not those of the file asked for.
#[derive(Debug, thiserror::Error)]
#[error("descriptors of a cached file cannot be used: {0}")]
pub struct LocalFileError(String);

impl LocalFile {
    /// Takes the descriptors of `file`.
    pub fn new(file: FileId, data: OwnedFd, checksums: OwnedFd) -> Result<LocalFile, LocalFileError> {
        let (data, sums) = (File::from(data), File::from(checksums));
        let mut bytes = [0; HEADER_LEN];
        sums.read_exact_at(&mut bytes, 0)
            .map_err(|error| LocalFileError(format!("the checksum file's header cannot be read: {error}")))?;
        let header = Header::decode(&bytes)
            .ok_or_else(|| LocalFileError("the checksum file is damaged or of another format".to_owned()))?;
        if header.file != file {
            return Err(LocalFileError(format!("they belong to {}, not to {file}", header.file)));
        }
        Ok(LocalFile { header, data, sums })
    }

    /// Where its pages lie.
    pub fn geometry(&self) -> Geometry {
        self.header.geometry
    }

    /// The data file, to be mapped or read where it has been checked.
    pub fn data(&self) -> &File {
        &self.data
    }

    /// Reads at `offset` into `buf` as far as pages are cached here and match their checksums; how many bytes. Less than
    /// asked for: a miss right there (or the end of the file).
    pub fn read_verified(&self, offset: u64, buf: &mut [u8]) -> usize {
        let end = offset.saturating_add(buf.len() as u64);
        let mut done = 0;
        while offset + (done as u64) < end {
            let at = offset + done as u64;
            let Some(part) = self.cached_part(at..end) else {
                break;
            };
            let len = (part.end - part.start) as usize;
            if verify::read_verified(self, at, &mut buf[done..done + len]).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    /// How much of `range` is cached in the page where it begins; none when it starts with a miss.
    fn cached_part(&self, range: Range<u64>) -> Option<Range<u64>> {
        let page = self.header.geometry.page_of(range.start)?;
        let bytes = RecordBytes::read(self, page).ok()?;
        let length = bytes.decode(&self.header, page).ok()?.length;
        let page_end = self.header.geometry.page_offset(page) + length as u64;
        (range.start < page_end).then(|| range.start..range.end.min(page_end))
    }
}

impl Source for LocalFile {
    fn header(&self) -> &Header {
        &self.header
    }

    fn read_data(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buf, offset)
    }

    fn read_sums(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.sums.read_exact_at(buf, offset)
    }
}
