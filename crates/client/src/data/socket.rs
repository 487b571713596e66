//! A stream socket of either kind, with reads and writes that end by themselves.
//!
//! All operations first try without waiting, and only make a timer when they must wait.

use super::fault::Fault;
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// Descriptors of one answer.
const DESCRIPTORS_MAX: usize = 2;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// With the descriptors that came and were not taken.
    Unix(UnixStream, Mutex<Vec<OwnedFd>>),
}

/// What ended the sending of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All bytes are on their way.
    All,
    /// The peer answers already: it does not want the rest.
    Answered,
}

impl Socket {
    pub(crate) async fn tcp(address: &str, patience: Duration) -> Result<Socket, Fault> {
        let connect = forebay_proto::dial::tcp(address);
        let socket = tokio::time::timeout(patience, connect)
            .await
            .map_err(|_| Fault::Silent(patience))?
            .map_err(|error| Fault::Broken(format!("cannot connect: {error}")))?;
        socket.set_nodelay(true)?;
        notice_dead_hosts(&socket).map_err(std::io::Error::from)?;
        Ok(Socket::Tcp(socket))
    }

    pub(crate) async fn unix(path: &Path, patience: Duration) -> Result<Socket, Fault> {
        let connect = UnixStream::connect(path);
        let socket = tokio::time::timeout(patience, connect)
            .await
            .map_err(|_| Fault::Silent(patience))?
            .map_err(|error| Fault::Broken(format!("cannot connect to {}: {error}", path.display())))?;
        Ok(Socket::Unix(socket, Mutex::default()))
    }

    /// Reads into `bufs` in turn; 0 when the peer has closed.
    pub(crate) async fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>], patience: Duration) -> Result<usize, Fault> {
        loop {
            let read = match self {
                Socket::Tcp(socket) => socket.try_read_vectored(bufs),
                Socket::Unix(socket, descriptors) => receive(socket, bufs, descriptors),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready(Interest::READABLE, patience).await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return Ok(other?),
            }
        }
    }

    /// Writes all of `bufs`, unless the peer answers before; then they are what is left.
    pub(crate) async fn write_all(&self, bufs: &mut &mut [IoSlice<'_>], patience: Duration) -> Result<Sent, Fault> {
        IoSlice::advance_slices(bufs, 0);
        while !bufs.is_empty() {
            match self.try_write_vectored(bufs) {
                Ok(0) => return Err(Fault::closed()),
                Ok(written) => IoSlice::advance_slices(bufs, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    if self.ready(both, patience).await?.is_readable() && self.has_answer()? {
                        return Ok(Sent::Answered);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Sent::All)
    }

    /// Whether the peer has sent something or closed. Readiness alone does not tell: it outlives the bytes that it was about, until
    /// a read finds nothing.
    fn has_answer(&self) -> io::Result<bool> {
        let peek = || Ok(recv(self.as_fd(), &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?);
        let peeked = match self {
            Socket::Tcp(socket) => socket.try_io(Interest::READABLE, peek),
            Socket::Unix(socket, _) => socket.try_io(Interest::READABLE, peek),
        };
        match peeked {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // The kernel takes 1,024 slices at most (UIO_MAXIOV).
        let bufs = &bufs[..bufs.len().min(1024)];
        match self {
            Socket::Tcp(socket) => socket.try_write_vectored(bufs),
            Socket::Unix(socket, _) => socket.try_write_vectored(bufs),
        }
    }

    /// Waits until the socket is ready, `patience` at most.
    pub(crate) async fn ready(&self, interest: Interest, patience: Duration) -> Result<Ready, Fault> {
        let ready = async {
            match self {
                Socket::Tcp(socket) => socket.ready(interest).await,
                Socket::Unix(socket, _) => socket.ready(interest).await,
            }
        };
        match tokio::time::timeout(patience, ready).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(Fault::Silent(patience)),
        }
    }
}

/// Reads as `try_read_vectored` does, and keeps the descriptors that come with the bytes.
fn receive(socket: &UnixStream, bufs: &mut [IoSliceMut<'_>], descriptors: &Mutex<Vec<OwnedFd>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        socket.try_io(Interest::READABLE, || Ok(recvmsg(socket, bufs, &mut control, RecvFlags::CMSG_CLOEXEC)?))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            let mut kept = descriptors.lock();
            // More than one answer brings is nothing that was asked for: dropping them closes them.
            let room = DESCRIPTORS_MAX - kept.len();
            kept.extend(received.take(room));
        }
    }
    Ok(received.bytes)
}

/// Makes the kernel break a connection to a host that is gone: within 10 seconds, whether we are sending or waiting.
fn notice_dead_hosts(socket: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(socket, 5)?;
    sockopt::set_tcp_user_timeout(socket, 10_000)
}

impl Socket {
    /// The descriptors that came with the last answer.
    pub(crate) fn take_descriptors(&self) -> Vec<OwnedFd> {
        match self {
            Socket::Tcp(_) => Vec::new(),
            Socket::Unix(_, descriptors) => std::mem::take(&mut descriptors.lock()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket, _) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// More than the buffers of both sides take.
    const BODY: usize = 64 << 20;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ours, theirs) = tokio::join!(Socket::tcp(&address, PATIENCE), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    async fn read_answer(socket: &Socket) {
        let mut answer = [0; 4];
        let read = socket.read_vectored(&mut [IoSliceMut::new(&mut answer)], PATIENCE).await.unwrap();
        assert_eq!(&answer[..read], b"done");
    }

    #[tokio::test]
    async fn an_answer_that_was_read_does_not_end_the_next_request() {
        let (socket, mut peer) = pair().await;
        peer.write_all(b"done").await.unwrap();
        read_answer(&socket).await;
        let body = vec![7; BODY];
        let mut bufs = &mut [IoSlice::new(&body)][..];
        let mut received = vec![0; BODY];
        let (sent, read) = tokio::join!(socket.write_all(&mut bufs, PATIENCE), peer.read_exact(&mut received));
        assert_eq!((sent.unwrap(), read.unwrap()), (Sent::All, BODY));
        assert!(received == body);
    }

    #[tokio::test]
    async fn an_answer_in_the_middle_ends_the_sending() {
        let (socket, mut peer) = pair().await;
        let body = vec![7; BODY];
        let mut bufs = &mut [IoSlice::new(&body)][..];
        let (sent, written) = tokio::join!(socket.write_all(&mut bufs, PATIENCE), peer.write_all(b"done"));
        written.unwrap();
        assert_eq!(sent.unwrap(), Sent::Answered);
        read_answer(&socket).await;
    }
}
