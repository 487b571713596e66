//! Stores in the tree.

use super::{Client, mounts};
use crate::error::Result;
use crate::path::ToPath;
use crate::types::{AddedMount, Mount, MountChanges, MountSpec};
use forebay_proto::v1;

impl Client {
    /// Mounts a store. Its answer and rights are checked first, unless `skip_check`.
    ///
    /// # Errors
    /// `already_exists`; `invalid_argument`, `permission_denied` or `unavailable` with what is wrong with the store.
    pub async fn add_mount(&self, path: impl ToPath, spec: MountSpec, skip_check: bool) -> Result<AddedMount> {
        let id = self.inner.begin_change().await?;
        let request = v1::AddMountRequest {
            meta: id.meta(),
            path: path.to_path()?.to_bytes(),
            spec: Some(spec.into()),
            skip_check,
        };
        let reply = self.inner.call_within(id.left(), request, |channel, request| async move {
            mounts(channel).add_mount(request).await
        });
        let reply = reply.await?;
        Ok(AddedMount { mount: Mount::from_wire(reply.mount)?, empty: reply.empty })
    }

    /// All mounts.
    pub async fn mounts(&self) -> Result<Vec<Mount>> {
        let request = v1::ListMountsRequest {};
        let reply =
            self.inner.call(request, |channel, request| async move { mounts(channel).list_mounts(request).await });
        let mounts = reply.await?.mounts.into_iter();
        mounts.map(|mount| Mount::from_wire(Some(mount))).collect()
    }

    /// Changes a mount.
    pub async fn update_mount(&self, path: impl ToPath, changes: MountChanges) -> Result<Mount> {
        let id = self.inner.begin_change().await?;
        let request = v1::UpdateMountRequest {
            meta: id.meta(),
            path: path.to_path()?.to_bytes(),
            read_only: changes.read_only,
            sync_interval: changes.sync_interval,
            set_options: changes.set_options.into_iter().collect(),
            unset_options: changes.unset_options,
            set_secrets: changes.set_secrets.into_iter().collect(),
            skip_check: changes.skip_check,
        };
        let reply = self.inner.call_within(id.left(), request, |channel, request| async move {
            mounts(channel).update_mount(request).await
        });
        Mount::from_wire(reply.await?.mount)
    }

    /// Takes a store out of the tree. Touches nothing in the store. With `discard` also when files below are not
    /// persisted yet; these are lost.
    ///
    /// # Errors
    /// `not_found`; `conflict` when there is unpersisted data below and `discard` is not set.
    pub async fn remove_mount(&self, path: impl ToPath, discard: bool) -> Result<()> {
        let id = self.inner.begin_change().await?;
        let request = v1::RemoveMountRequest { meta: id.meta(), path: path.to_path()?.to_bytes(), discard };
        let reply = self.inner.call_within(id.left(), request, |channel, request| async move {
            mounts(channel).remove_mount(request).await
        });
        reply.await.map(|_| ())
    }
}
