//! Where a process of a cluster runs: on this machine, or on a host of a network that can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use crate::network::Network;
use crate::port::Port;

/// A place for one process, which stays its own over restarts.
#[derive(Clone, Debug)]
pub(super) struct Site(Option<(Arc<Network>, usize)>);

impl Site {
    /// The host of that number, if there is a network.
    pub(super) fn new(network: Option<&Arc<Network>>, host: usize) -> Site {
        Site(network.map(|network| (Arc::clone(network), host)))
    }

    pub(super) fn reserve_port(&self) -> Result<Port> {
        let ip = match &self.0 {
            None => IpAddr::from(Ipv4Addr::LOCALHOST),
            Some((network, host)) => network.address(*host)?,
        };
        Port::reserve_at(ip)
    }

    /// Where others reach what listens on a port here.
    pub(super) fn front(&self, port: &Port) -> Result<SocketAddr> {
        match &self.0 {
            None => Ok(port.address()),
            Some((network, host)) => network.front(*host, port.address()),
        }
    }

    /// Has a program that is to be started run here.
    pub(super) fn place(&self, command: &mut Command) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |(network, host)| network.place(*host, command))
    }

    /// It runs.
    pub(super) fn runs(&self, pid: u32) {
        if let Some((network, host)) = &self.0 {
            network.runs(*host, pid);
        }
    }
}

/// A port of a master, and how others reach it.
#[derive(Debug)]
pub(super) struct MasterPort {
    pub(super) port: Port,
    pub(super) advertised: SocketAddr,
}

impl MasterPort {
    pub(super) fn reserve(site: &Site) -> Result<MasterPort> {
        let port = site.reserve_port()?;
        Ok(MasterPort { advertised: site.front(&port)?, port })
    }
}
