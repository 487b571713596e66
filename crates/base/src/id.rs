//! Identities. Each is its own type, so that two integers side by side cannot be swapped.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A file or directory of the namespace. Never reused. The root directory is [`InodeId::ROOT`].
    InodeId(u64)
);
id!(
    /// One store mounted into the tree. Never reused.
    MountId(u32)
);
id!(
    /// A worker, drawn at random when its data directory is first made and kept there.
    WorkerId(u64)
);
id!(
    /// A client process, drawn at random when it connects.
    ClientId(u64)
);
id!(
    /// The position of a block in its file, counted from zero.
    BlockIndex(u32)
);
id!(
    /// The position of a page in its file (not in its block), counted from zero.
    PageIndex(u32)
);

impl InodeId {
    /// The root directory `/`.
    pub const ROOT: InodeId = InodeId(1);
}

/// One version of a file's content. Cached bytes are named by this, so a stale page can never be
/// served for a new version (DESIGN.md, D4): the version grows whenever the content changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The file.
    pub inode: InodeId,
    /// Grows by one with each new content of the inode; 1 is the first.
    pub version: u64,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.inode.0, self.version)
    }
}

/// One block of one version of a file: the unit of placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The file version that the block is cut from.
    pub file: FileId,
    /// Which block of it.
    pub index: BlockIndex,
}

/// Names one mutating request for ever, so that a repeated one gets the first one's reply.
///
/// `sequence` grows by one with each request of a client, starting at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Who asks.
    pub client: ClientId,
    /// Which of its requests.
    pub sequence: u64,
}

impl RequestId {
    /// How far a client may be ahead of its oldest request that is under way: the masters keep the replies of so many sequence numbers,
    /// and refuse a request whose number lies so far back, since they cannot tell whether they have answered it.
    pub const SPAN_MAX: u64 = 1024;
}
