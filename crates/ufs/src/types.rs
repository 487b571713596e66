//! What goes over the boundary: metadata, conditions, pages of listings, parts of uploads.

use crate::UfsResult;
use bytes::Bytes;
use forebay_base::VersionTag;
use futures::stream::BoxStream;

/// File bytes as they arrive. Ends after the last byte asked for, or with one error.
pub type ByteStream = BoxStream<'static, UfsResult<Bytes>>;

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// It has bytes.
    File,
    /// It has entries.
    Directory,
}

/// What a store knows of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// File or directory.
    pub kind: ObjectKind,
    /// Bytes of the file; 0 of a directory.
    pub length: u64,
    /// When it was last changed by the store's clock, in milliseconds since 1970-01-01 UTC; 0 where the store does not say (directories in object stores).
    pub modified_ms: u64,
    /// The mark of this version; empty for directories, never for files. A store that gives none gets one made of time and length.
    pub tag: VersionTag,
}

impl ObjectMeta {
    /// A directory of which the store knows nothing else.
    pub fn directory() -> ObjectMeta {
        ObjectMeta { kind: ObjectKind::Directory, length: 0, modified_ms: 0, tag: VersionTag::default() }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == ObjectKind::Directory
    }

    /// The version to ask for when reading this object.
    pub fn expected(&self) -> Expected {
        Expected { tag: self.tag.clone(), length: self.length }
    }
}

/// The version of a file that a reader wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expected {
    /// Its mark, from [`ObjectMeta::tag`].
    pub tag: VersionTag,
    /// Its bytes.
    pub length: u64,
}

/// When a write may take effect.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum PutCondition {
    /// Always.
    #[default]
    None,
    /// Only when no file has the name.
    IfAbsent,
    /// Only over this version.
    IfTag(VersionTag),
}

/// Where an entry stands in the listing of its directory: its name, with a slash at the end when it is a directory. Compared as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey(pub Bytes);

impl ListKey {
    /// The place of a name of that kind.
    pub fn new(name: &[u8], kind: ObjectKind) -> ListKey {
        let mut key = name.to_vec();
        if kind == ObjectKind::Directory {
            key.push(b'/');
        }
        ListKey(key.into())
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The last part of its key.
    pub name: Bytes,
    /// What the store's listing says of it.
    pub meta: ObjectMeta,
}

impl ListEntry {
    /// Where it stands.
    pub fn list_key(&self) -> ListKey {
        ListKey::new(&self.name, self.meta.kind)
    }
}

/// From where a listing goes on: after this place. Made from the last page, or from any [`ListKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor {
    pub(crate) after: ListKey,
    /// The store's own mark for the same place, which is cheaper and exact.
    pub(crate) token: Option<String>,
}

impl ListCursor {
    /// The place after `key`.
    pub fn after(key: ListKey) -> ListCursor {
        ListCursor { after: key, token: None }
    }

    /// Everything up to here, inclusive, has been listed.
    pub fn list_key(&self) -> &ListKey {
        &self.after
    }
}

/// An object or directory that has the same name as another one that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The name of both.
    pub name: Bytes,
    /// The one of the two that is not shown.
    pub meta: ObjectMeta,
}

/// How many objects of a page cannot be names of a tree, with a few of their keys for messages.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The first [`Skipped::SAMPLES_MAX`] keys, as text.
    pub samples: Vec<String>,
}

impl Skipped {
    /// How many keys are named.
    pub const SAMPLES_MAX: usize = 5;

    /// Counts one more.
    pub fn add(&mut self, key: &[u8]) {
        self.count += 1;
        if self.samples.len() < Self::SAMPLES_MAX {
            self.samples.push(key.escape_ascii().to_string());
        }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListPage {
    /// In the order of their list keys.
    pub entries: Vec<ListEntry>,
    /// What shares its name with an entry of this directory and is not shown.
    pub hidden: Vec<Hidden>,
    /// What cannot be a name: empty, `.`, `..`, too long, not a file or directory.
    pub skipped: Skipped,
    /// The object that marks the listed directory itself, on the first page of an object store's listing. It may have bytes.
    pub marker: Option<ObjectMeta>,
    /// Where to go on; `None` at the end.
    pub next: Option<ListCursor>,
}

/// The store's name of an upload that has begun. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which part of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartPosition {
    /// Counted from 1; at most [`Capabilities::parts_max`].
    pub number: u32,
    /// Where it lies in the object: the lengths of the parts before it.
    pub offset: u64,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UploadedPart {
    /// Its [`PartPosition::number`].
    pub number: u32,
    /// Its bytes.
    pub length: u64,
    /// The store's mark of the part.
    pub tag: VersionTag,
}

/// An upload that was begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpload {
    /// The key it is for.
    pub key: Bytes,
    /// Its name.
    pub upload: UploadId,
    /// When it was begun by the store's clock, in milliseconds since 1970-01-01 UTC.
    pub begun_ms: u64,
}

/// From where a list of uploads goes on. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadCursor {
    pub(crate) key: Vec<u8>,
    pub(crate) upload: String,
}

/// One page of unfinished uploads.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PendingUploads {
    /// By key, then in the store's order.
    pub uploads: Vec<PendingUpload>,
    /// Where to go on; `None` at the end.
    pub next: Option<UploadCursor>,
}

/// The page behind `from` of all uploads in order.
pub(crate) fn upload_page(
    mut uploads: Vec<PendingUpload>,
    from: Option<&UploadCursor>,
    limit: usize,
) -> PendingUploads {
    let limit = limit.max(1);
    if let Some(from) = from {
        let after = (from.key.as_slice(), from.upload.as_str());
        uploads.retain(|upload| (&upload.key[..], upload.upload.0.as_str()) > after);
    }
    let more = uploads.len() > limit;
    uploads.truncate(limit);
    let next = uploads
        .last()
        .filter(|_| more)
        .map(|last| UploadCursor { key: last.key.to_vec(), upload: last.upload.0.clone() });
    PendingUploads { uploads, next }
}

/// Which version of an object may be deleted. Nothing at the key is no error in any case; another version is
/// [`crate::UfsError::VersionChanged`] and stays. Directories that are real have no version: they go when they are empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum DeleteCondition {
    /// Whatever is there.
    #[default]
    None,
    /// Only this version. The store compares where it can; it is asked directly before in any case.
    IfTag(VersionTag),
    /// Only this version, which a listing has just shown. The store compares where it can and is not asked again, so that many go in one
    /// request.
    IfListed(VersionTag),
}

/// One thing to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTarget {
    /// Its key.
    pub key: Bytes,
    /// Whether the file of that key goes, or the directory.
    pub kind: ObjectKind,
    /// Which version of it.
    pub condition: DeleteCondition,
}

impl DeleteTarget {
    /// The file of that key.
    pub fn file(key: impl Into<Bytes>) -> DeleteTarget {
        DeleteTarget { key: key.into(), kind: ObjectKind::File, condition: DeleteCondition::None }
    }

    /// The directory of that key.
    pub fn directory(key: impl Into<Bytes>) -> DeleteTarget {
        DeleteTarget { key: key.into(), kind: ObjectKind::Directory, condition: DeleteCondition::None }
    }

    /// The same, on a condition.
    pub fn when(self, condition: DeleteCondition) -> DeleteTarget {
        DeleteTarget { condition, ..self }
    }
}

/// What a mount wants to do with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// List and read.
    Read,
    /// Also write and delete.
    ReadWrite,
}

/// What a store can do. Callers choose their way by it; nothing that it denies is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`crate::Ufs::rename`] works and is atomic.
    pub native_rename: bool,
    /// Directories exist by themselves; else they are implied by keys, and one whose last entry goes is gone unless it was made.
    pub real_directories: bool,
    /// Conditions of [`crate::Ufs::put`] hold against every other writer; else they are checked just before writing.
    pub atomic_put_condition: bool,
    /// The same for [`crate::Ufs::complete_upload`].
    pub atomic_complete_condition: bool,
    /// Names need not be UTF-8.
    pub any_byte_names: bool,
    /// Least bytes of a part that is not the last.
    pub part_len_min: u64,
    /// Most bytes of a part.
    pub part_len_max: u64,
    /// Most parts of an upload.
    pub parts_max: u32,
    /// Most bytes of one [`crate::Ufs::put`].
    pub put_len_max: u64,
    /// Most targets that one [`crate::Ufs::delete`] sends as one request; more are cut.
    pub delete_batch: usize,
}
