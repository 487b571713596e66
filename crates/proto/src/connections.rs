//! The connections of a gRPC server, of masters and workers alike: bounded, and patient where the system has no more descriptors.
//!
//! The server that they are given to asks again at once when accepting fails: left alone, a process at its limit of descriptors would use up a
//! processor and say nothing. A connection has a place only once its peer has said something, and keeps it as long as the system hears of the peer.

use futures::{Stream, StreamExt, stream};
use rustix::net::sockopt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long nothing is accepted after it failed: descriptors come free when connections end, and each failure is a line in the log.
const PAUSE: Duration = Duration::from_millis(200);

/// A peer begins at once: gRPC's client speaks first. One that has said nothing for so long is let go.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Peers that have said nothing yet; more wait in the system's queue until some have, or are let go.
const SILENT_MAX: usize = 1024;
/// The bound is not told of more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// The system asks a peer that says nothing after so long whether it is still there, so often, and so many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// A connection in its place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener, `max` at a time (at least one); further ones wait in the system's queue. `server` names it in the log. It never ends.
pub fn accept(
    listener: TcpListener,
    server: &'static str,
    max: usize,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    accept_patiently(listener, server, max, SILENCE_MAX)
}

fn accept_patiently(
    listener: TcpListener,
    server: &'static str,
    max: usize,
    silence_max: Duration,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Places { free: Arc::new(Semaphore::new(max.max(1))), server, max, warned_at: None };
    let begun = begun(listener, server, silence_max);
    stream::unfold((Box::pin(begun), places), move |(mut begun, mut places)| async move {
        // The place first: who waits for one is not served, and costs nothing but its place among the silent ones.
        let place = places.take().await?;
        let stream = begun.next().await?;
        Some((Ok(Connection { stream, _place: place }), (begun, places)))
    })
}

/// The connections whose peers have said something, as they do.
fn begun(listener: TcpListener, server: &'static str, silence_max: Duration) -> impl Stream<Item = TcpStream> + Send {
    let accepted = stream::unfold(listener, move |listener| async move {
        let stream = patiently(server, |context| listener.poll_accept(context)).await.0;
        Some((stream, listener))
    });
    let begun = accepted.map(move |stream| async move {
        set_up(&stream);
        let said = tokio::time::timeout(silence_max, stream.peek(&mut [0])).await;
        matches!(said, Ok(Ok(1..))).then_some(stream)
    });
    begun.buffer_unordered(SILENT_MAX).filter_map(std::future::ready)
}

fn set_up(stream: &TcpStream) {
    // Only slower without it.
    let _ = stream.set_nodelay(true);
    let (idle, interval, count) = KEEPALIVE;
    let keepalive = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, idle))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, interval))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, count));
    if let Err(error) = keepalive {
        tracing::debug!(%error, "cannot have the system look after a connection");
    }
}

/// The places of a listener's connections.
struct Places {
    free: Arc<Semaphore>,
    server: &'static str,
    max: usize,
    warned_at: Option<Instant>,
}

impl Places {
    async fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned_at = Some(Instant::now());
            let (server, max) = (self.server, self.max);
            tracing::warn!(
                server,
                max,
                "as many connections are open as there may be; further ones wait for one to end"
            );
        }
        // An error would say that it was closed, which nobody does.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// Asks until it works.
async fn patiently<T>(server: &str, mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
    loop {
        match poll_fn(&mut accept).await {
            Ok(accepted) => return accepted,
            // The peer has given up meanwhile: no fault of ours.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(server, %error, "cannot accept a connection; raise the limit of open files if it is that");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn speaking(address: SocketAddr) -> TcpStream {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"PRI").await.unwrap();
        peer
    }

    #[tokio::test]
    async fn silent_ones_take_no_place_and_are_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = std::pin::pin!(accept_patiently(listener, "test", 1, Duration::from_millis(50)));
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let speaking = speaking(address).await;
        let connection = connections.next().await.unwrap().unwrap();
        assert_eq!(connection.connect_info().remote_addr(), Some(speaking.local_addr().unwrap()));
        assert!(sockopt::socket_keepalive(&connection.stream).unwrap());
        drop(connection);
        let let_go = async {
            for peer in &mut silent {
                assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
            }
        };
        let served = async {
            loop {
                connections.next().await;
            }
        };
        tokio::select! {
            () = let_go => {}
            () = served => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("they are still there"),
        }
    }

    #[tokio::test]
    async fn one_beyond_the_bound_waits_for_another_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = std::pin::pin!(accept(listener, "test", 1));
        let _peers = [speaking(address).await, speaking(address).await];
        let first = connections.next().await.unwrap().unwrap();
        assert!(connections.next().now_or_never().is_none());
        drop(first);
        connections.next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn failures_are_waited_out() {
        let (tries, started) = (AtomicU32::new(0), Instant::now());
        let accepted = patiently("test", |_| {
            Poll::Ready(match tries.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(io::Error::other("too many open files")),
                2 => Err(io::ErrorKind::ConnectionAborted.into()),
                _ => Ok(7),
            })
        });
        assert_eq!(accepted.await, 7);
        assert!(started.elapsed() >= 2 * PAUSE, "{:?}", started.elapsed());
        assert_eq!(tries.into_inner(), 4);
    }
}
