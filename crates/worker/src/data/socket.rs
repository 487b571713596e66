//! A data connection: one socket, TCP or Unix, used by one task, with a deadline for a peer that stalls.
//!
//! Readiness and the calls themselves are kept apart, so that a call that can go on at once costs no timer and no wake-up.

use crate::error::ConnectionError;
use bytes::{BufMut, Bytes, BytesMut};
use forebay_proto::frame::{HEADER_LEN, Header};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Room for a request and what comes with it; heads are rarely larger than a ticket.
const INPUT_LEN: usize = 16 << 10;
/// Bytes of one `sendfile`: long enough that the call's own cost does not show, short enough that others get their turn.
const SENDFILE_LEN: u64 = 1 << 20;
/// After so many bytes sent without a wait the task lets others run: about a millisecond.
const YIELD_AFTER: u64 = 4 << 20;
/// Descriptors sent with one frame.
const DESCRIPTORS: usize = 2;

/// TCP or Unix.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.ready(interest).await.map(drop),
            Socket::Unix(stream) => stream.ready(interest).await.map(drop),
        }
    }

    fn try_io<R>(&self, interest: Interest, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        match self {
            Socket::Tcp(stream) => stream.try_io(interest, || call(stream.as_fd())),
            Socket::Unix(stream) => stream.try_io(interest, || call(stream.as_fd())),
        }
    }

    fn try_read_buf(&self, buf: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(buf),
            Socket::Unix(stream) => stream.try_read_buf(buf),
        }
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write_vectored(parts),
            Socket::Unix(stream) => stream.try_write_vectored(parts),
        }
    }
}

/// A socket with what has been read from it and not been used yet.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    input: BytesMut,
    stall_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(socket: Socket, stall_timeout: Duration) -> Connection {
        Connection { socket, input: BytesMut::with_capacity(INPUT_LEN), stall_timeout }
    }

    /// Whether this is a Unix socket: only those can carry descriptors.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// Waits, without a deadline, until there is something to read; false when the peer has closed. Cancel-safe.
    pub(crate) async fn wait_for_input(&mut self) -> io::Result<bool> {
        while self.input.is_empty() {
            self.input.reserve(INPUT_LEN);
            match self.socket.try_read_buf(&mut self.input) {
                Ok(got) => return Ok(got > 0),
                Err(error) if would_block(&error) => self.socket.ready(Interest::READABLE).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits until the peer has closed; for ever when it sends something, which is its next request. Cancel-safe.
    pub(crate) async fn hung_up(&mut self) -> ConnectionError {
        match self.wait_for_input().await {
            Ok(true) => std::future::pending().await,
            Ok(false) => closed().into(),
            Err(error) => error.into(),
        }
    }

    /// The next header and head.
    pub(crate) async fn next_frame(&mut self) -> Result<(Header, Bytes), ConnectionError> {
        let mut raw = [0; HEADER_LEN];
        raw.copy_from_slice(&self.take(HEADER_LEN).await?);
        let header = Header::decode(&raw)?;
        let head = self.take(header.head_len as usize).await?;
        Ok((header, head))
    }

    /// The next bytes of a body into `out`: as many as are there, at least one, `len_max` at most.
    pub(crate) async fn body_some(&mut self, out: &mut impl BufMut, len_max: usize) -> Result<usize, ConnectionError> {
        if !self.input.is_empty() {
            let len = len_max.min(self.input.len());
            out.put(self.input.split_to(len));
            return Ok(len);
        }
        // Limited, so that no byte of the next frame is taken.
        match self.receive(&mut out.limit(len_max)).await? {
            0 => Err(closed().into()),
            got => Ok(got),
        }
    }

    /// Exactly `len` bytes.
    async fn take(&mut self, len: usize) -> Result<Bytes, ConnectionError> {
        while self.input.len() < len {
            let mut input = std::mem::take(&mut self.input);
            input.reserve((len - input.len()).max(INPUT_LEN));
            let got = self.receive(&mut input).await;
            self.input = input;
            if got? == 0 {
                return Err(closed().into());
            }
        }
        Ok(self.input.split_to(len).freeze())
    }

    /// Reads what is there, waiting for the peer as long as it may stall; 0 when it has closed.
    async fn receive(&mut self, out: &mut impl BufMut) -> Result<usize, ConnectionError> {
        loop {
            match self.socket.try_read_buf(out) {
                Err(error) if would_block(&error) => self.wait(Interest::READABLE).await?,
                done => return Ok(done?),
            }
        }
    }

    async fn wait(&self, interest: Interest) -> Result<(), ConnectionError> {
        tokio::time::timeout(self.stall_timeout, self.socket.ready(interest))
            .await
            .map_err(|_| ConnectionError::Stalled(self.stall_timeout))??;
        Ok(())
    }

    /// Writes all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.send_parts(&mut [IoSlice::new(bytes)]).await
    }

    /// Writes all of `bytes`, of which the kernel may keep the last until more follows, as it is about to: no packet and no waking of the peer for them alone.
    pub(crate) async fn send_more(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut at = 0;
        while at < bytes.len() {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sent =
                self.socket.try_io(Interest::WRITABLE, |socket| Ok(rustix::net::send(socket, &bytes[at..], flags)?));
            match sent {
                Ok(0) => return Err(closed().into()),
                Ok(sent) => at += sent,
                Err(error) if would_block(&error) => self.wait(Interest::WRITABLE).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes all parts, one after the other, in as few calls as the socket allows.
    pub(crate) async fn send_parts(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), ConnectionError> {
        let mut since_wait = 0;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.socket.try_write_vectored(parts) {
                Ok(0) => return Err(closed().into()),
                Ok(sent) => {
                    IoSlice::advance_slices(&mut parts, sent);
                    let_others_run(&mut since_wait, sent as u64).await;
                }
                Err(error) if would_block(&error) => {
                    self.wait(Interest::WRITABLE).await?;
                    since_wait = 0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends a range of a file without copying it through this process; returns how much of it the file had.
    /// Waits for the disk where the range is not in the page cache: ask [`super::resident`] first.
    pub(crate) async fn send_file(&mut self, file: BorrowedFd<'_>, range: Range<u64>) -> Result<u64, ConnectionError> {
        let mut at = range.start;
        let mut since_wait = 0;
        while at < range.end {
            let len = (range.end - at).min(SENDFILE_LEN) as usize;
            let sent = self.socket.try_io(Interest::WRITABLE, |socket| {
                let mut from = at;
                Ok(rustix::fs::sendfile(socket, file, Some(&mut from), len)?)
            });
            match sent {
                Ok(0) => break,
                Ok(sent) => {
                    at += sent as u64;
                    let_others_run(&mut since_wait, sent as u64).await;
                }
                Err(error) if would_block(&error) => {
                    self.wait(Interest::WRITABLE).await?;
                    since_wait = 0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(at - range.start)
    }

    /// Writes `bytes` with descriptors attached to the first of them. Only for Unix sockets.
    pub(crate) async fn send_with_descriptors(
        &mut self,
        bytes: &[u8],
        descriptors: [BorrowedFd<'_>; DESCRIPTORS],
    ) -> Result<(), ConnectionError> {
        let sent = loop {
            let sent = self.socket.try_io(Interest::WRITABLE, |socket| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                    return Err(io::Error::other("no room for the descriptors"));
                }
                let parts = [IoSlice::new(bytes)];
                let flags = SendFlags::NOSIGNAL;
                Ok(rustix::net::sendmsg(socket, &parts, &mut control, flags)?)
            });
            match sent {
                Err(error) if would_block(&error) => self.wait(Interest::WRITABLE).await?,
                done => break done?,
            }
        };
        self.send(&bytes[sent..]).await
    }
}

/// Does what moves a body of `len` bytes, in no more than `time`: while memory is held for it.
pub(crate) async fn in_time<T>(
    len: u64,
    time: Duration,
    work: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(ConnectionError::Slow { len, time }))
}

async fn let_others_run(since_wait: &mut u64, sent: u64) {
    *since_wait += sent;
    if *since_wait >= YIELD_AFTER {
        *since_wait = 0;
        tokio::task::yield_now().await;
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed in the middle of a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_proto::frame::{DoneHead, Kind, encode_frame};
    use std::io::Write;
    use std::os::fd::AsFd;

    fn pair(stall: Duration) -> (Connection, Connection) {
        let (a, b) = UnixStream::pair().unwrap();
        (Connection::new(Socket::Unix(a), stall), Connection::new(Socket::Unix(b), stall))
    }

    #[tokio::test]
    async fn frames_bodies_and_files_keep_their_borders() {
        let (mut to, mut from) = pair(Duration::from_secs(10));
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let frame = encode_frame(Kind::Done, 7, &DoneHead { hit: 1, missed: 2 }, 2_000_000);
        let sender = async {
            to.send(&frame).await.unwrap();
            let sent = to.send_file(file.as_fd(), 500_000..2_500_000).await.unwrap();
            assert_eq!(sent, 2_000_000);
            to.send(&frame).await.unwrap();
            let past = to.send_file(file.as_fd(), 2_900_000..3_900_000).await.unwrap();
            assert_eq!(past, 100_000, "a file that is too short is noticed");
        };
        let receiver = async {
            let (header, _) = from.next_frame().await.unwrap();
            assert_eq!(header.body_len, 2_000_000);
            let mut body = BytesMut::new();
            while body.len() < 2_000_000 {
                let rest = 2_000_000 - body.len();
                from.body_some(&mut body, rest).await.unwrap();
            }
            assert!(body == content[500_000..2_500_000]);
            let (header, _) = from.next_frame().await.unwrap();
            assert_eq!(header.request, 7);
            let mut rest = BytesMut::new();
            while rest.len() < 100_000 {
                let missing = 100_000 - rest.len();
                from.body_some(&mut rest, missing).await.unwrap();
            }
            assert!(rest == content[2_900_000..]);
        };
        tokio::join!(sender, receiver);
    }

    #[tokio::test]
    async fn a_peer_that_stalls_is_given_up() {
        let (mut to, mut from) = pair(Duration::from_millis(50));
        let big = vec![0; 16 << 20];
        let stalled = to.send(&big).await;
        assert!(matches!(stalled, Err(ConnectionError::Stalled(_))), "{stalled:?}");
        from.input.extend_from_slice(b"Fb");
        drop(to);
        while from.body_some(&mut BytesMut::new(), 1 << 20).await.is_ok() {}
        assert!(!from.wait_for_input().await.unwrap());
    }
}
