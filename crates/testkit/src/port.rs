//! Ports for programs that must be told theirs, and must find it free again after a restart.
//!
//! A port from the kernel (bind to 0, look, close) may be taken before the program binds it: by another test, or as the
//! local end of any outgoing connection. Ours lie below the range that outgoing connections use, and are reserved
//! among all test processes of the machine by an abstract Unix socket of the same number, which the kernel frees with us.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use anyhow::{Context, Result};

/// Linux gives outgoing connections 32768 and up (`ip_local_port_range`).
const RANGE: Range<u16> = 12_000..32_000;

const ATTEMPTS_MAX: usize = 1_000;

/// A TCP port of one address that no other test of this machine gets while this value lives.
#[derive(Debug)]
pub struct Port {
    ip: IpAddr,
    number: u16,
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port of the loopback address on which nobody listens.
    pub fn reserve() -> Result<Self> {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::try_reserve(rand::random_range(RANGE)))
            .with_context(|| format!("no free port among {ATTEMPTS_MAX} tried in {RANGE:?}"))
    }

    /// Reserves a port of an address, on a host where nobody else is.
    pub(crate) fn reserve_at(ip: IpAddr) -> Result<Self> {
        Ok(Self { ip, ..Self::reserve()? })
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let name = format!("forebay-testkit-port-{number}");
        let reservation = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name).ok()?).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { ip: Ipv4Addr::LOCALHOST.into(), number, _reservation: reservation })
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The address with this port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.ip, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_again_when_free() {
        let port = Port::reserve().unwrap();
        let number = port.number();
        assert!(Port::try_reserve(number).is_none());
        drop(port);
        let port = Port::try_reserve(number).unwrap();
        let listener = TcpListener::bind(port.address()).unwrap();
        drop(port);
        assert!(Port::try_reserve(number).is_none());
        drop(listener);
    }
}
