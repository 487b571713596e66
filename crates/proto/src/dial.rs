//! Connecting to servers, and never to oneself.
//!
//! Whoever connects to a loopback port on which nobody listens, again and again, is given that very port as its own sooner or later, if it is one of
//! those that the kernel hands out; then TCP's simultaneous open connects the socket to itself, and the server that the port belongs to cannot bind
//! it. Such a connection is closed at once and counts as refused.

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::set_socket_linger;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::codegen::{Service, StdError, http::Uri};
use tonic::transport::{Channel, Endpoint};

/// Connects to `address`, `host:port`.
///
/// # Errors
/// As `TcpStream::connect`; `ConnectionRefused` for a connection to itself.
pub async fn tcp(address: &str) -> io::Result<TcpStream> {
    not_to_itself(TcpStream::connect(address).await?)
}

/// A gRPC channel that connects when first used, within `patience`, and again when it broke.
pub fn lazy_channel(endpoint: Endpoint, patience: Duration) -> Channel {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(patience));
    endpoint.connect_timeout(patience).connect_with_connector_lazy(Connector(http))
}

fn not_to_itself(stream: TcpStream) -> io::Result<TcpStream> {
    // A peer that has gone away already has no address any more, and is none of ours.
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return Ok(stream) };
    if (own.ip(), own.port()) != (peer.ip(), peer.port()) {
        return Ok(stream);
    }
    // Closed without a farewell, which would keep the port for a minute.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {peer}")))
}

/// Connects for gRPC.
#[derive(Clone, Debug)]
struct Connector(HttpConnector);

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { Ok(TokioIo::new(not_to_itself(connecting.await?.into_inner())?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn a_connection_to_itself_is_refused_and_leaves_the_port_free() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stream = socket.connect(address).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address, "the kernel connects a socket to itself");
        assert_eq!(not_to_itself(stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // Without SO_REUSEADDR, which would hide a connection that lingers.
        TcpSocket::new_v4().unwrap().bind(address).unwrap();
    }

    #[tokio::test]
    async fn other_connections_are_made() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = tcp(&address.to_string()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(stream.local_addr().unwrap(), accepted.peer_addr().unwrap());
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let uri = format!("http://{address}").parse().unwrap();
        let stream = Connector(http).call(uri).await.unwrap();
        assert_eq!(stream.inner().peer_addr().unwrap(), address);
        drop(listener);
        assert_eq!(tcp(&address.to_string()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
