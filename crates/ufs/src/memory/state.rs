//! The objects and uploads of a memory store, without faults: plain maps.

use crate::object_tree::{RawPage, Row};
use crate::{ObjectKind, ObjectMeta, PendingUpload, UploadId, UploadedPart};
use bytes::Bytes;
use forebay_base::{Clock, SystemClock, VersionTag};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Completed uploads that are remembered, so that a repeated completion is recognised; older ones are forgotten.
const COMPLETED_MAX: usize = 1024;

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) chunks: Vec<Bytes>,
    pub(super) meta: ObjectMeta,
}

/// One upload.
#[derive(Clone, Debug)]
struct Upload {
    key: Vec<u8>,
    begun_ms: u64,
    parts: BTreeMap<u32, (UploadedPart, Vec<Bytes>)>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    objects: BTreeMap<Vec<u8>, Object>,
    uploads: BTreeMap<UploadId, Upload>,
    completed: VecDeque<(UploadId, VersionTag)>,
    last_number: u64,
}

/// Why an upload cannot be completed.
pub(super) enum CompleteError {
    Unknown,
    BadParts(String),
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Object> {
        self.objects.get(key)
    }

    pub(super) fn insert(&mut self, key: &[u8], chunks: Vec<Bytes>) -> ObjectMeta {
        let meta = ObjectMeta {
            kind: ObjectKind::File,
            length: length_of(&chunks),
            modified_ms: SystemClock.now().0,
            tag: VersionTag(format!("m{}", self.next_number())),
        };
        let object = Object { chunks, meta: meta.clone() };
        self.objects.insert(key.to_vec(), object);
        meta
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.objects.remove(key).is_some()
    }

    pub(super) fn set_modified(&mut self, key: &[u8], modified_ms: u64) -> bool {
        let object = self.objects.get_mut(key);
        object.map(|object| object.meta.modified_ms = modified_ms).is_some()
    }

    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        self.objects.keys().cloned().collect()
    }

    /// Whether any key begins with `prefix`.
    pub(super) fn has_prefix(&self, prefix: &[u8]) -> bool {
        self.objects
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .next()
            .is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// Up to `limit` rows below `prefix` after `after` (a whole key), as a listing with delimiter gives them.
    pub(super) fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> RawPage {
        let mut rows = Vec::new();
        let mut from = match after {
            // Everything below a directory that was listed is behind it.
            Some([name @ .., b'/']) => Bound::Included(behind(name)),
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        loop {
            let next = self.objects.range((from, Bound::Unbounded)).next();
            let Some((key, object)) = next.filter(|(key, _)| key.starts_with(prefix)) else {
                break RawPage { rows, more: false, token: None };
            };
            if rows.len() == limit {
                break RawPage { rows, more: true, token: None };
            }
            let rest = &key[prefix.len()..];
            from = match rest.iter().position(|byte| *byte == b'/') {
                Some(slash) => {
                    rows.push(Row::Prefix(Bytes::copy_from_slice(&rest[..slash])));
                    Bound::Included(behind(&key[..prefix.len() + slash]))
                }
                None => {
                    rows.push(Row::Object(Bytes::copy_from_slice(rest), object.meta.clone()));
                    Bound::Excluded(key.clone())
                }
            };
        }
    }

    pub(super) fn begin_upload(&mut self, key: &[u8]) -> UploadId {
        let id = UploadId(format!("u{:012}", self.next_number()));
        let upload = Upload { key: key.to_vec(), begun_ms: SystemClock.now().0, parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// The part as stored; `None` when the upload is unknown.
    pub(super) fn put_part(
        &mut self,
        key: &[u8],
        id: &UploadId,
        number: u32,
        chunks: Vec<Bytes>,
    ) -> Option<UploadedPart> {
        let tag = VersionTag(format!("p{}", self.next_number()));
        let upload = self.uploads.get_mut(id).filter(|upload| upload.key == key)?;
        let part = UploadedPart { number, length: length_of(&chunks), tag };
        upload.parts.insert(number, (part.clone(), chunks));
        Some(part)
    }

    /// The bytes that completing would give the object.
    pub(super) fn assemble(
        &self,
        key: &[u8],
        id: &UploadId,
        parts: &[UploadedPart],
    ) -> Result<Vec<Bytes>, CompleteError> {
        let upload = self.uploads.get(id).filter(|upload| upload.key == key).ok_or(CompleteError::Unknown)?;
        let mut body = Vec::new();
        for part in parts {
            match upload.parts.get(&part.number) {
                Some((stored, chunks)) if stored == part => body.extend(chunks.iter().cloned()),
                _ => {
                    return Err(CompleteError::BadParts(format!("part {} is not the one stored", part.number)));
                }
            }
        }
        Ok(body)
    }

    pub(super) fn finish(&mut self, key: &[u8], id: &UploadId, body: Vec<Bytes>) -> ObjectMeta {
        self.uploads.remove(id);
        let meta = self.insert(key, body);
        if self.completed.len() == COMPLETED_MAX {
            self.completed.pop_front();
        }
        self.completed.push_back((id.clone(), meta.tag.clone()));
        meta
    }

    /// The object that an upload made, when it is still the one at the key.
    pub(super) fn result_of(&self, key: &[u8], id: &UploadId) -> Option<ObjectMeta> {
        let (_, tag) = self.completed.iter().find(|(done, _)| done == id)?;
        let object = self.objects.get(key)?;
        (object.meta.tag == *tag).then(|| object.meta.clone())
    }

    pub(super) fn abort(&mut self, id: &UploadId) {
        self.uploads.remove(id);
    }

    pub(super) fn uploads(&self, prefix: &[u8]) -> Vec<PendingUpload> {
        let mut all: Vec<PendingUpload> = self
            .uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(prefix))
            .map(|(id, upload)| PendingUpload {
                key: upload.key.clone().into(),
                upload: id.clone(),
                begun_ms: upload.begun_ms,
            })
            .collect();
        all.sort_by(|a, b| (&a.key, &a.upload).cmp(&(&b.key, &b.upload)));
        all
    }
}

pub(super) fn length_of(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The first place behind everything below a directory: '0' follows '/'.
fn behind(directory: &[u8]) -> Vec<u8> {
    [directory, b"0"].concat()
}
