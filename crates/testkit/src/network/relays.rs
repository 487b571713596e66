//! Hosts that reach each other's servers through relays on loopback, which know who is at each end and hold back what is cut.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::tcp_table;

/// Who is at an end of a connection: a host, or none of them.
type End = Option<usize>;

const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Relays {
    shared: Arc<Shared>,
    listening: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug, Default)]
struct Shared {
    cuts: watch::Sender<Cuts>,
    /// The processes of the hosts. One that has ended holds no connection.
    hosts: Mutex<HashMap<u32, usize>>,
}

#[derive(Clone, Debug, Default)]
struct Cuts {
    ways: HashSet<(usize, usize)>,
    isolated: HashSet<usize>,
}

impl Cuts {
    fn are_between(&self, from: End, to: End) -> bool {
        let isolated = [from, to].into_iter().flatten().any(|host| self.isolated.contains(&host));
        isolated || from.zip(to).is_some_and(|way| self.ways.contains(&way))
    }
}

impl Relays {
    pub(super) fn cut(&self, from: usize, to: usize) {
        self.shared.cuts.send_if_modified(|cuts| cuts.ways.insert((from, to)));
    }

    pub(super) fn isolate(&self, host: usize) {
        self.shared.cuts.send_if_modified(|cuts| cuts.isolated.insert(host));
    }

    pub(super) fn heal(&self) {
        self.shared.cuts.send_replace(Cuts::default());
    }

    pub(super) fn runs(&self, host: usize, pid: u32) {
        lock(&self.shared.hosts).insert(pid, host);
    }

    /// A relay before what a host serves.
    pub(super) fn front(&self, host: usize, listens: SocketAddr) -> Result<SocketAddr> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("listening for a relay")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, host, listens, Arc::clone(&self.shared)));
        lock(&self.listening).push(task.abort_handle());
        Ok(address)
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        lock(&self.listening).iter().for_each(AbortHandle::abort);
    }
}

/// Ends with all its connections when it is aborted.
async fn serve(listener: TcpListener, host: usize, listens: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                connections.spawn(relay(stream, peer, host, listens, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(stream: TcpStream, peer: SocketAddr, host: usize, listens: SocketAddr, shared: Arc<Shared>) {
    let from = stream.local_addr().ok().and_then(|own| shared.host_of(peer, own));
    let mut cuts = shared.cuts.subscribe();
    // A connection that is begun while no packet passes waits, too.
    if !pass(&mut cuts, from, Some(host)).await || !pass(&mut cuts, Some(host), from).await {
        return;
    }
    let Ok(server) = TcpStream::connect(listens).await else { return };
    let ((client_in, client_out), (server_in, server_out)) = (stream.into_split(), server.into_split());
    let up = pump(client_in, server_out, (from, Some(host)), cuts.clone());
    let down = pump(server_in, client_out, (Some(host), from), cuts);
    // One that breaks breaks both; an orderly end of one leaves the other.
    let _ = tokio::try_join!(up, down);
}

impl Shared {
    /// Which host has connected to us from there.
    fn host_of(&self, peer: SocketAddr, own: SocketAddr) -> End {
        let (peer, own) = (v4(peer)?, v4(own)?);
        let hosts = lock(&self.hosts).clone();
        tcp_table::owner(hosts.keys().copied(), peer, own).and_then(|pid| hosts.get(&pid).copied())
    }
}

fn v4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    }
}

/// Waits until nothing is cut in this direction; false when the relays are gone.
async fn pass(cuts: &mut watch::Receiver<Cuts>, from: End, to: End) -> bool {
    cuts.wait_for(|cuts| !cuts.are_between(from, to)).await.is_ok()
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: (End, End),
    mut cuts: watch::Receiver<Cuts>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        // That a connection has ended is heard no earlier than its bytes.
        if !pass(&mut cuts, way.0, way.1).await {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        match read? {
            0 => return to.shutdown().await,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);
    const LITTLE: Duration = Duration::from_millis(50);

    /// A server behind a relay, as host 0, and a client outside; or, since this process holds both, as a host.
    async fn connection(client: End) -> (Relays, TcpStream, TcpStream) {
        let relays = Relays::default();
        if let Some(host) = client {
            relays.runs(host, std::process::id());
        }
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = relays.front(0, server.local_addr().unwrap()).unwrap();
        let client = TcpStream::connect(front).await.unwrap();
        let (accepted, _) = server.accept().await.unwrap();
        (relays, client, accepted)
    }

    /// The next one, which must come.
    async fn byte(stream: &mut TcpStream) -> u8 {
        timeout(SOON, stream.read_u8()).await.unwrap().unwrap()
    }

    async fn is_silent(stream: &mut TcpStream) -> bool {
        timeout(LITTLE, stream.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn what_is_cut_in_one_direction_comes_after_it_is_healed() {
        let (relays, mut client, mut server) = connection(Some(1)).await;
        relays.cut(1, 0);
        client.write_u8(1).await.unwrap();
        server.write_u8(2).await.unwrap();
        assert_eq!(byte(&mut client).await, 2);
        assert!(is_silent(&mut server).await);
        relays.heal();
        assert_eq!(byte(&mut server).await, 1);
    }

    #[tokio::test]
    async fn cuts_between_hosts_are_not_for_others_and_an_isolated_host_reaches_nobody() {
        let (relays, mut client, mut server) = connection(None).await;
        relays.cut(1, 0);
        client.write_u8(1).await.unwrap();
        assert_eq!(byte(&mut server).await, 1);
        relays.isolate(0);
        client.write_u8(2).await.unwrap();
        server.write_u8(3).await.unwrap();
        assert!(is_silent(&mut server).await && is_silent(&mut client).await);
        relays.heal();
        assert_eq!((byte(&mut server).await, byte(&mut client).await), (2, 3));
    }
}
