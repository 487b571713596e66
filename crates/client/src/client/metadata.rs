//! Files and directories: what a path is, and changing it.

use super::Client;
use crate::error::Result;
use crate::list::ListStream;
use crate::path::ToPath;
use crate::types::{
    AttributeChanges, ContentSummary, DeleteOptions, Entry, ListOptions, MakeDirectoryOptions, RenameOptions,
    StatOptions, SyncMode,
};
use forebay_base::{ErrorKind, NsPath};
use forebay_proto::v1;

impl Client {
    /// What a path is.
    ///
    /// # Errors
    /// `not_found` when nothing is there.
    pub async fn stat(&self, path: impl ToPath) -> Result<Entry> {
        self.stat_with(path, StatOptions::default()).await
    }

    /// [`stat`](Client::stat) with choices.
    pub async fn stat_with(&self, path: impl ToPath, options: StatOptions) -> Result<Entry> {
        let path = path.to_path()?;
        let request = v1::StatRequest {
            path: path.to_bytes(),
            sync: options.sync.to_wire(),
            with_xattrs: options.with_xattrs,
            bound: None,
        };
        let reply = self.inner.read(options.sync, request);
        Entry::at(path, reply.await?.entry)
    }

    /// The entries of a directory, sorted by the bytes of their names, in pages as they are asked for: memory does not grow with the directory.
    ///
    /// # Errors
    /// Fails at once for a bad path, all else comes as an item of the stream: `not_found`, `not_a_directory`, `unavailable`, …
    pub fn list(&self, path: impl ToPath) -> Result<ListStream> {
        self.list_with(path, ListOptions::default())
    }

    /// [`list`](Client::list) with choices.
    pub fn list_with(&self, path: impl ToPath, options: ListOptions) -> Result<ListStream> {
        Ok(ListStream::new(self.inner.clone(), path.to_path()?, options))
    }

    /// Numbers and bytes of what lies at and below a path.
    pub async fn content_summary(&self, path: impl ToPath) -> Result<ContentSummary> {
        self.content_summary_with(path, SyncMode::default()).await
    }

    /// [`content_summary`](Client::content_summary), choosing whether stores are asked first.
    pub async fn content_summary_with(&self, path: impl ToPath, sync: SyncMode) -> Result<ContentSummary> {
        let request = v1::ContentSummaryRequest { path: path.to_path()?.to_bytes(), sync: sync.to_wire(), bound: None };
        let reply = self.inner.read(sync, request);
        Ok(reply.await?.into())
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `already_exists`, unless it is a directory and `parents` is set; `not_found` when a parent is missing and `parents` is not set.
    pub async fn make_directory(&self, path: impl ToPath, options: MakeDirectoryOptions) -> Result<Entry> {
        let id = self.inner.begin_change().await?;
        let path = path.to_path()?;
        let request = v1::MakeDirectoryRequest {
            meta: id.meta(),
            path: path.to_bytes(),
            parents: options.parents,
            owner: options.owner,
            group: options.group,
            mode: options.mode,
        };
        let reply = self.inner.ask_within(id.left(), request);
        Entry::at(path, reply.await?.entry)
    }

    /// Renames a file or directory, atomically, over an existing one by the rules of POSIX rename(2).
    ///
    /// # Errors
    /// `not_found`; `already_exists` with `no_replace`; `not_empty`, `is_a_directory`, `not_a_directory` as rename(2).
    pub async fn rename(&self, from: impl ToPath, to: impl ToPath, options: RenameOptions) -> Result<()> {
        let id = self.inner.begin_change().await?;
        let request = v1::RenameRequest {
            meta: id.meta(),
            from: from.to_path()?.to_bytes(),
            to: to.to_path()?.to_bytes(),
            no_replace: options.no_replace,
        };
        let reply = self.inner.ask_within(id.left(), request).await;
        reply.map(drop).map_err(|error| match error.kind() {
            ErrorKind::DeadlineExceeded => error.with_hint(
                "the rename goes on in the background if it has begun: look at both paths before it is repeated; for renames that take long, raise client.deadline",
            ),
            _ => error,
        })
    }

    /// Deletes a file or directory, in the namespace and in its store.
    ///
    /// # Errors
    /// `not_found`; `not_empty` for a directory with entries without `recursive`; `conflict` when it is not the version that was expected.
    pub async fn delete(&self, path: impl ToPath, options: DeleteOptions) -> Result<()> {
        let id = self.inner.begin_change().await?;
        let request = v1::DeleteRequest {
            meta: id.meta(),
            path: path.to_path()?.to_bytes(),
            recursive: options.recursive,
            namespace_only: options.namespace_only,
            expected_inode: options.expected.map_or(0, |expected| expected.inode.0),
            expected_version: options.expected.map_or(0, |expected| expected.version),
        };
        let reply = self.inner.ask_within(id.left(), request);
        reply.await.map(|_| ())
    }

    /// Changes attributes.
    pub async fn set_attributes(&self, path: impl ToPath, changes: AttributeChanges) -> Result<Entry> {
        let id = self.inner.begin_change().await?;
        let path = path.to_path()?;
        let request = set_attributes_request(&path, changes, id.meta());
        let reply = self.inner.ask_within(id.left(), request);
        Entry::at(path, reply.await?.entry)
    }
}

fn set_attributes_request(
    path: &NsPath,
    changes: AttributeChanges,
    meta: Option<v1::RequestMeta>,
) -> v1::SetAttributesRequest {
    v1::SetAttributesRequest {
        meta,
        path: path.to_bytes(),
        owner: changes.owner,
        group: changes.group,
        mode: changes.mode,
        modified_ms: changes.modified.map(|time| time.0),
        accessed_ms: changes.accessed.map(|time| time.0),
        set_xattrs: changes.set_xattrs.into_iter().map(v1::Xattr::from).collect(),
        remove_xattrs: changes.remove_xattrs,
        recursive: changes.recursive,
    }
}
