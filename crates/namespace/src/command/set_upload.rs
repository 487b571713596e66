//! Records the multipart upload of a write.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::reply::Payload;
use crate::tree;

/// Records that a multipart upload has begun for a write. The first one recorded stays.
/// Reply: [`crate::reply::Payload::Write`] with the upload that counts; when it is another one, the proposer aborts its own.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetUpload {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
    /// The store's name of the upload.
    #[prost(string, tag = "2")]
    pub upload: String,
}

impl SetUpload {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let mut write = tree::live_write(tx, self.write)?;
        if write.upload.is_empty() {
            write.upload.clone_from(&self.upload);
            keys::write::put(&mut tx.pending, &write);
        }
        Ok(Payload::Write(write))
    }
}
