//! tokio's traits over a file.

use super::File;
use bytes::{Buf, Bytes};
use futures::Stream;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};

/// A file with a position: tokio's `AsyncRead`, `AsyncBufRead` and `AsyncSeek`; see [`File::reader`].
#[derive(Debug)]
pub struct FileReader {
    file: File,
    position: u64,
    /// Reads ahead from `position + chunk.len()`; none until the first read after a seek.
    stream: Option<super::ReadStream>,
    chunk: Bytes,
}

impl FileReader {
    pub(crate) fn new(file: File) -> FileReader {
        FileReader { file, position: 0, stream: None, chunk: Bytes::new() }
    }

    /// The file that is read.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the next byte comes from.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn seek_to(&mut self, position: u64) {
        let ahead = position.checked_sub(self.position);
        match ahead.and_then(|ahead| usize::try_from(ahead).ok()) {
            // Within what has arrived already.
            Some(ahead) if ahead <= self.chunk.len() => self.chunk.advance(ahead),
            _ => {
                self.chunk.clear();
                self.stream = None;
            }
        }
        self.position = position;
    }
}

impl AsyncBufRead for FileReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.chunk.is_empty() {
            let (file, position) = (&this.file, this.position);
            let stream = this.stream.get_or_insert_with(|| {
                super::ReadStream::new(file.clone(), position.., super::stream::WINDOW_OF_SEEKER)
            });
            match ready!(Pin::new(stream).poll_next(cx)) {
                Some(Ok(chunk)) => this.chunk = chunk,
                Some(Err(error)) => {
                    // The stream has ended with it. Whoever reads again must not take that for the end of the file.
                    this.stream = None;
                    return Poll::Ready(Err(error.into()));
                }
                None => break,
            }
        }
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.chunk.advance(amount);
        self.position += amount as u64;
    }
}

impl AsyncRead for FileReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let arrived = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = arrived.len().min(out.remaining());
        out.put_slice(&arrived[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.len().checked_add_signed(by),
        };
        let position = position.ok_or_else(|| {
            let message = format!("cannot seek to {to:?}: that is before the start of the file");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        self.seek_to(position);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
