//! Accepting data connections, and the loop of requests on each.

use crate::data::local::Leases;
use crate::data::reply::Reply;
use crate::data::socket::{Connection, Socket};
use crate::data::{local, read, write_part};
use crate::error::{ConnectionError, RequestError};
use crate::metrics as names;
use crate::node::Node;
use bytes::Bytes;
use forebay_proto::frame::{FrameError, Header, Kind};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OwnedSemaphorePermit;

/// After an accept that failed (no descriptors left), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// Serves until the worker stops.
pub(crate) async fn serve(node: Arc<Node>, listener: Listener) {
    loop {
        let accepted = tokio::select! {
            () = node.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => take(&node, socket),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a data connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn take(node: &Arc<Node>, socket: Socket) {
    let connection = Connection::new(socket, node.limits.stall_timeout);
    let (abort, node) = (node.abort.clone(), node.clone());
    let tasks = node.tasks.clone();
    tasks.spawn(async move {
        let served = async {
            match node.connections.clone().try_acquire_owned() {
                Ok(place) => serve_connection(node.clone(), connection, place).await,
                Err(_) => refuse(connection).await,
            }
        };
        tokio::select! {
            () = abort.cancelled() => {}
            () = served => {}
        }
    });
}

async fn refuse(mut connection: Connection) {
    metrics::counter!(names::CONNECTIONS_REFUSED).increment(1);
    let error = RequestError::Unavailable("the worker has as many connections as it may have".into());
    let _ = Reply::new(&mut connection, 0).error(&error).await;
}

async fn serve_connection(node: Arc<Node>, connection: Connection, _place: OwnedSemaphorePermit) {
    metrics::gauge!(names::CONNECTIONS).increment(1);
    let mut session = Session { leases: Leases::new(&node), node, connection };
    if let Err(error) = session.run().await {
        match error {
            ConnectionError::Io(error) => tracing::debug!(%error, "data connection ended"),
            error => tracing::warn!(%error, "data connection cut off"),
        }
    }
    metrics::gauge!(names::CONNECTIONS).decrement(1);
}

/// One connection and what it holds.
pub(crate) struct Session {
    pub(crate) node: Arc<Node>,
    pub(crate) connection: Connection,
    pub(crate) leases: Leases,
}

impl Session {
    async fn run(&mut self) -> Result<(), ConnectionError> {
        while self.wait_for_request().await? {
            let (header, head) = self.connection.next_frame().await?;
            self.request(header, head).await?;
        }
        Ok(())
    }

    /// False when the connection shall end: the peer has closed it, it has been idle for long, or the worker stops.
    async fn wait_for_request(&mut self) -> Result<bool, ConnectionError> {
        // Who holds descriptors is not idle: the files are read without us.
        let patience = match self.leases.is_empty() {
            true => self.node.limits.idle_timeout,
            false => Duration::MAX,
        };
        tokio::select! {
            biased;
            () = self.node.stop.cancelled() => Ok(false),
            waited = tokio::time::timeout(patience, self.connection.wait_for_input()) => match waited {
                Ok(input) => Ok(input?),
                Err(_) => Ok(false),
            }
        }
    }

    async fn request(&mut self, header: Header, head: Bytes) -> Result<(), ConnectionError> {
        match header.kind {
            Kind::WritePart => write_part::serve(self, header, parse(head)?).await,
            _ if header.body_len > 0 => Err(FrameError::BadHead(format!(
                "a {:?} has no body, this one has {} bytes",
                header.kind, header.body_len
            ))
            .into()),
            Kind::Read => read::serve(self, header.request, parse(head)?).await,
            Kind::LocalOpen => local::open(self, header.request, parse(head)?).await,
            Kind::LocalFill => local::fill(self, header.request, parse(head)?).await,
            Kind::LocalClose => local::close(self, header.request, parse(head)?).await,
            kind => Err(FrameError::BadHead(format!("a {kind:?} is no request")).into()),
        }
    }
}

/// Reads a head; a ticket in it shares the memory of `bytes`.
fn parse<M: Message + Default>(bytes: Bytes) -> Result<M, FrameError> {
    M::decode(bytes).map_err(|error| FrameError::BadHead(error.to_string()))
}
