//! Under stores: the object stores and directories whose data Forebay shows in its tree.
//!
//! [`Ufs`] is the boundary; [`open()`] makes one from a URI. Three kinds exist: S3 and everything that speaks its protocol ([`s3`]), a
//! directory of this host or a network file system mounted there, and memory ([`memory`]), the fake that tests turn faults on.
//! All pass one suite (`conformance`, behind the feature `testing`).

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod credentials;
mod error;
mod failure;
mod granted;
mod key;
pub mod local;
pub mod memory;
mod metered;
pub mod mount_options;
mod object_tree;
mod open;
pub mod s3;
mod store;
mod trouble;
mod types;
pub mod userinfo;

pub use credentials::{AccessKeys, CredentialSource};
pub use error::{Failure, UfsError, UfsResult};
pub use granted::{GrantedReads, GrantedWay, HttpGrant, ReadGrant};
pub use metered::{METRICS, describe_metrics};
pub use open::{OpenOptions, open};
pub use store::Ufs;
pub use types::{
    Access, ByteStream, Capabilities, DeleteCondition, DeleteTarget, Expected, Hidden, ListCursor, ListEntry, ListKey,
    ListPage, ObjectKind, ObjectMeta, PartPosition, PendingUpload, PendingUploads, PutCondition, Skipped, UploadCursor,
    UploadId, UploadedPart,
};
