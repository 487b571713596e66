//! The boundary: what every under store can do, and the contract that the conformance suite checks.

use crate::{
    Access, ByteStream, Capabilities, DeleteTarget, Expected, ListCursor, ListPage, ObjectKind, ObjectMeta,
    PartPosition, PendingUploads, PutCondition, ReadGrant, UfsResult, UploadCursor, UploadId, UploadedPart,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;

/// One under store below one root: a bucket's prefix, a directory of a host.
///
/// **Keys** are bytes relative to that root, names joined by `/`, without a slash at either end; the empty key is the root itself, which is a
/// directory. Names are not empty, `.` or `..`, hold no NUL and are at most 255 bytes; any other key is [`crate::UfsError::Invalid`]. What a store
/// cannot hold beyond that (S3: names that are not UTF-8) gets the same error.
///
/// **One name, two objects.** Object stores can hold `a` beside `a/b`; a tree cannot. When `a` has bytes, the file keeps the name and the
/// directory is hidden (mounting its prefix shows it); when `a` is empty, as the directory markers of some tools are, the directory keeps the name.
/// [`Ufs::stat`] and [`Ufs::list`] agree on it, and a listing names what it hid.
///
/// **Retries.** Each call tries again by itself after failures that may pass, with growing pauses and within the store's deadline. Every call may be
/// repeated by the caller: a write that took effect although its answer was lost is recognised where the store gives the means.
///
/// **Cancellation.** Dropping a future or stream ends its requests; a write then may or may not have happened, but never in part.
///
/// **Memory.** Calls hold one page of a listing, or one buffer of a stream; bodies are handed over in chunks and never joined.
#[async_trait]
pub trait Ufs: std::fmt::Debug + Send + Sync + 'static {
    /// The store and its root as users write them, e.g. `s3://bucket/prefix`; for messages and metrics. Holds no secrets.
    fn uri(&self) -> &str;

    /// What the store can do. Constant for the life of the value.
    fn capabilities(&self) -> Capabilities;

    /// Whether the store answers and lets us work; the error says which of the steps failed and what mends it. With
    /// [`Access::ReadWrite`] an object named `.forebay-probe-…` is written below the root and removed again.
    async fn check(&self, access: Access) -> UfsResult<()>;

    /// What lies at `key`; `None` when nothing does.
    async fn stat(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>>;

    /// One of the two objects that a name can have, whichever of them [`Ufs::stat`] shows: the file of exactly that key, or the object
    /// that marks the directory, with its bytes and version. Where directories are real, a directory is its own mark.
    async fn stat_object(&self, key: &[u8], kind: ObjectKind) -> UfsResult<Option<ObjectMeta>>;

    /// Up to `limit` entries of a directory after `from`, in the order of their [`crate::ListKey`]s: bytes, a directory compared as its name with a
    /// slash at the end. A page may be shorter than `limit`, even empty, and the listing still go on: only `next: None` ends it. A directory that
    /// does not exist is an empty listing in an object store, and may be [`crate::UfsError::NotFound`] elsewhere. Entries that appear or go while
    /// a listing runs may or may not be in it; all others are, once.
    async fn list(&self, directory: &[u8], from: Option<&ListCursor>, limit: usize) -> UfsResult<ListPage>;

    /// The bytes of `range` of the version `expected`, streamed as they arrive. Another version than the expected is
    /// [`crate::UfsError::VersionChanged`], before the first byte or in the middle. The range must lie within the object
    /// ([`crate::UfsError::Invalid`]); exactly its bytes come, or an error does. An interrupted body is resumed by the stream itself.
    async fn read(&self, key: &[u8], range: Range<u64>, expected: &Expected) -> UfsResult<ByteStream>;

    /// The right to read one version of an object for `lifetime`, for who has no credentials ([`crate::GrantedReads`]). Asks the store nothing: whether the
    /// object is there shows when it is read. The right may be for less time, where the credentials live no longer. [`crate::UfsError::Unsupported`] where there is no
    /// such way.
    async fn grant_read(&self, key: &[u8], expected: &Expected, lifetime: Duration) -> UfsResult<ReadGrant>;

    /// Writes a whole object at once: readers see the old content or the new. Missing parent directories are made where the store has
    /// directories. A failed condition is [`crate::UfsError::AlreadyExists`] or [`crate::UfsError::VersionChanged`].
    async fn put(&self, key: &[u8], body: Vec<Bytes>, condition: &PutCondition) -> UfsResult<ObjectMeta>;

    /// Begins an object that is sent in parts. Nothing is visible before [`Ufs::complete_upload`].
    async fn begin_upload(&self, key: &[u8]) -> UfsResult<UploadId>;

    /// Stores one part; a part sent again replaces the first. Parts may come in any order and at the same time. [`Capabilities`] has the sizes allowed.
    async fn put_part(
        &self,
        key: &[u8],
        upload: &UploadId,
        position: PartPosition,
        body: Vec<Bytes>,
    ) -> UfsResult<UploadedPart>;

    /// Makes the object out of its parts, in their order, at once. Repeating a call that took effect returns the same object and changes nothing; once
    /// something else is at the key, the repeated call is [`crate::UfsError::UploadGone`], or still tells what it made.
    async fn complete_upload(
        &self,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta>;

    /// Drops an upload and its parts. One that is gone already, completed or never was, is no error.
    async fn abort_upload(&self, key: &[u8], upload: &UploadId) -> UfsResult<()>;

    /// Uploads that were begun and neither completed nor aborted, for keys that begin with `prefix`.
    async fn list_uploads(&self, prefix: &[u8], from: Option<&UploadCursor>, limit: usize)
    -> UfsResult<PendingUploads>;

    /// Makes a directory that stays when it is empty, and its parents. One that exists is no error, and its mark stays as it is, bytes included; a file of
    /// the name is [`crate::UfsError::AlreadyExists`] where the store can tell for free (directories on disk), and hidden otherwise.
    async fn make_directory(&self, key: &[u8]) -> UfsResult<()>;

    /// Deletes objects and directories, each on its own and on its condition ([`crate::DeleteCondition`]): the answers are in the order of the targets. What
    /// is gone already is no error. A directory is deleted by its marker: where directories are real, one with entries is [`crate::UfsError::NotEmpty`];
    /// elsewhere it may be.
    async fn delete(&self, targets: &[DeleteTarget]) -> UfsResult<Vec<UfsResult<()>>>;

    /// Copies the version `expected` of one object within the store.
    async fn copy(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta>;

    /// Copies the object that marks a directory, with whatever bytes it has; [`crate::UfsError::Unsupported`] where directories are real.
    async fn copy_marker(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta>;

    /// Renames a file or directory at once, over an existing file or empty directory by POSIX's rules; only where
    /// [`Capabilities::native_rename`] says so, else [`crate::UfsError::Unsupported`]. The tag of a renamed file changes in a way that
    /// [`crate::local::is_renamed`] knows.
    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<()>;
}
