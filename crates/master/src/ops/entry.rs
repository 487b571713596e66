//! An inode as the wire has it.

use bytes::Bytes;
use forebay_base::MountId;
use forebay_namespace::Inode;
use forebay_proto::v1;

/// The entry of an inode; `path` is whole, or the name in a listing.
pub(crate) fn entry(inode: &Inode, path: Bytes, mount: Option<MountId>, with_xattrs: bool) -> v1::Entry {
    let xattrs = match with_xattrs {
        true => inode.xattrs.iter().map(xattr).collect(),
        false => Vec::new(),
    };
    let kind = match inode.is_directory() {
        true => v1::EntryKind::Directory,
        false => v1::EntryKind::File,
    };
    v1::Entry {
        inode: inode.id,
        path,
        kind: kind as i32,
        length: inode.length,
        version: inode.version,
        page_size: inode.page_size(),
        block_size: inode.block_size(),
        modified_ms: inode.modified_ms,
        accessed_ms: inode.accessed_ms(),
        changed_ms: inode.changed_ms(),
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        mode: inode.mode(),
        complete: inode.is_complete(),
        persisted: inode.is_persisted(),
        mount: mount.map_or(0, |mount| mount.0),
        mount_point: inode.is_mount_point(),
        version_tag: inode.tag.clone(),
        xattrs,
    }
}

fn xattr(xattr: &forebay_namespace::record::Xattr) -> v1::Xattr {
    v1::Xattr { name: xattr.name.clone(), value: xattr.value.clone() }
}
