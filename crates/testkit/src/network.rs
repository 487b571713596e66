//! Networks between the processes of a cluster that can be cut: between two hosts, in one direction or both, or around one of them.
//!
//! Best is a kernel's own network ([`Network::of_namespaces`]): each process has a network namespace, joined to the others by a bridge, and what is
//! cut is lost without a word, as behind a broken switch. Where namespaces are not allowed, relays on loopback take their place
//! ([`Network::of_relays`]): what is cut waits in them. In both, what was sent before a short cut comes after it, since TCP sends again.

mod namespace;
mod namespaces;
mod relays;
mod tcp_table;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::Result;

pub use namespace::enter_private;
use namespaces::Namespaces;
use relays::Relays;

/// Hosts, counted from 0, and programs outside of them: those that run in the namespace of this process, or have no relay.
#[derive(Debug)]
pub struct Network(Kind);

#[derive(Debug)]
enum Kind {
    Namespaces(Namespaces),
    Relays(Relays),
}

impl Network {
    /// Namespaces for so many hosts. They and all that belongs to them are gone with this process, however it ends, if it has called
    /// [`enter_private`] first: it must have.
    pub fn of_namespaces(hosts: usize) -> Result<Network> {
        Ok(Network(Kind::Namespaces(Namespaces::start(hosts)?)))
    }

    /// Relays on loopback, on the runtime of the caller.
    pub fn of_relays() -> Network {
        Network(Kind::Relays(Relays::default()))
    }

    /// For people: what it is made of.
    pub fn description(&self) -> &'static str {
        match &self.0 {
            Kind::Namespaces(_) => "network namespaces, cut by nftables and by taking links down",
            Kind::Relays(_) => "relays on loopback",
        }
    }

    /// Loses what goes from one host to another from now on.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        match &self.0 {
            Kind::Namespaces(namespaces) => namespaces.cut(from, to),
            Kind::Relays(relays) => {
                relays.cut(from, to);
                Ok(())
            }
        }
    }

    /// Loses all that goes to or comes from a host, from now on: its cable is pulled.
    pub fn isolate(&self, host: usize) -> Result<()> {
        match &self.0 {
            Kind::Namespaces(namespaces) => namespaces.set_link(host, namespaces::Link::Down),
            Kind::Relays(relays) => {
                relays.isolate(host);
                Ok(())
            }
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) -> Result<()> {
        match &self.0 {
            Kind::Namespaces(namespaces) => namespaces.heal(),
            Kind::Relays(relays) => {
                relays.heal();
                Ok(())
            }
        }
    }

    /// Where the programs of a host listen.
    pub fn address(&self, host: usize) -> Result<IpAddr> {
        match &self.0 {
            Kind::Namespaces(namespaces) => namespaces.address(host),
            Kind::Relays(_) => Ok(Ipv4Addr::LOCALHOST.into()),
        }
    }

    /// Where others reach what a host serves at an address of its own.
    pub(crate) fn front(&self, host: usize, listens: SocketAddr) -> Result<SocketAddr> {
        match &self.0 {
            Kind::Namespaces(_) => Ok(listens),
            Kind::Relays(relays) => relays.front(host, listens),
        }
    }

    /// Makes a program that is to be started one of a host.
    pub fn place(&self, host: usize, command: &mut Command) -> Result<()> {
        match &self.0 {
            Kind::Namespaces(namespaces) => namespaces.place(host, command),
            Kind::Relays(_) => Ok(()),
        }
    }

    /// That program runs, as this process.
    pub(crate) fn runs(&self, host: usize, pid: u32) {
        if let Kind::Relays(relays) = &self.0 {
            relays.runs(host, pid);
        }
    }
}
