//! What the workers have cached of a file: loading, freeing, looking.

use super::Client;
use crate::error::{Error, Result};
use crate::path::ToPath;
use crate::types::{LoadProgress, Location};
use forebay_base::ErrorKind;
use futures::stream::{BoxStream, Stream};
use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The progress of a load; see [`Client::load`]. Dropping it stops the load.
pub struct LoadStream(BoxStream<'static, Result<LoadProgress>>);

impl Stream for LoadStream {
    type Item = Result<LoadProgress>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for LoadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadStream")
    }
}

impl Client {
    /// Brings a range of a file into the caches of the workers that own its blocks. The stream says how far it is, a few
    /// times a second, and ends after everything is cached or after the first error.
    pub async fn load(
        &self,
        path: impl ToPath,
        range: impl RangeBounds<u64>,
    ) -> Result<LoadStream> {
        let _ = (path.to_path()?, range.start_bound(), range.end_bound());
        Err(Error::new(ErrorKind::Unavailable, "load is being built"))
    }

    /// Drops what workers have cached of a file, and says how many bytes that were. Content that the under store does
    /// not have yet stays.
    pub async fn free(&self, path: impl ToPath) -> Result<u64> {
        let _ = path.to_path()?;
        Err(Error::new(ErrorKind::Unavailable, "free is being built"))
    }

    /// Which worker has which ranges of a file cached, by worker id. Workers that do not answer are left out.
    pub async fn location(&self, path: impl ToPath) -> Result<Vec<Location>> {
        let _ = path.to_path()?;
        Err(Error::new(
            ErrorKind::Unavailable,
            "location is being built",
        ))
    }
}
