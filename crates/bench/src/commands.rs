//! Commands of the namespace as a master logs them: each the request of a client, in the tree of one mount.

use bytes::Bytes;
use forebay_namespace::command::{AddMount, CreateFile, MakeDirectory};
use forebay_namespace::record::MountSpec;
use forebay_namespace::{Action, Command, Request};

/// The proposer's clock; any will do.
pub(crate) const NOW_MS: u64 = 1_790_000_000_000;

/// The bytes of the log for the `number`th request of a client, counted from 0. The client has had the replies of all before it.
pub(crate) fn request(client: u64, number: u64, action: impl Into<Action>) -> Bytes {
    let sequence = number + 1;
    Command::requested(Request { client, sequence, acked_below: sequence }, NOW_MS, action).to_bytes()
}

/// Mounts a bucket, which nobody asks for anything, at `/lake`.
pub(crate) fn mount() -> Bytes {
    let spec = MountSpec { uri: "s3://bucket".to_owned(), ..MountSpec::default() };
    Command::internal(NOW_MS, AddMount { path: "/lake".into(), spec, mode: 0o755, ..AddMount::default() }).to_bytes()
}

/// Makes a directory, of which the store is known to have nothing.
pub(crate) fn make_directory(path: String) -> Bytes {
    let (path, mode) = (path.into(), 0o755);
    let action = MakeDirectory { path, parents: true, mode, loaded: true, ..MakeDirectory::default() };
    Command::internal(NOW_MS, action).to_bytes()
}

/// Starts a file.
pub(crate) fn create(path: impl Into<Bytes>) -> CreateFile {
    let (owner, group) = ("spark".to_owned(), "analytics".to_owned());
    CreateFile { path: path.into(), owner, group, mode: 0o644, lease_ms: 60_000, ..CreateFile::default() }
}
