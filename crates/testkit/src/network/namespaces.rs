//! Hosts as network namespaces on one bridge, cut by packet filters.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result};

use super::namespace::{Namespace, run};

/// The network is ours alone, so the addresses meet no others.
const BRIDGE: &str = "hub";
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FIRST_HOST: u8 = 10;

/// Drops what comes from the addresses in a set that begins empty.
const FILTER: &str = "table inet cuts { \
    set senders { type ipv4_addr; }; \
    chain input { type filter hook input priority 0; policy accept; ip saddr @senders drop; }; \
}";

/// The state of a host's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down,
}

#[derive(Debug)]
pub(super) struct Namespaces(Vec<Namespace>);

impl Namespaces {
    pub(super) fn start(hosts: usize) -> Result<Namespaces> {
        ip(&["link", "add", "name", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", &format!("{OUTSIDE}/24"), "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        let namespaces = Namespaces((0..hosts).map(|_| Namespace::make()).collect::<Result<_>>()?);
        (0..hosts).try_for_each(|host| namespaces.join(host).with_context(|| format!("joining host {host}")))?;
        Ok(namespaces)
    }

    /// A cable from the host to the bridge.
    fn join(&self, host: usize) -> Result<()> {
        let (namespace, port) = (self.of(host)?, port(host));
        ip(&["link", "add", "name", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace.path()])?;
        ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        namespace.run("ip", &["address", "add", &format!("{}/24", self.address(host)?), "dev", "eth0"])?;
        namespace.run("ip", &["link", "set", "eth0", "up"])?;
        namespace.run(NFT, &[FILTER])
    }

    fn of(&self, host: usize) -> Result<&Namespace> {
        self.0.get(host).with_context(|| format!("the network has {} hosts, and host {host} is not one", self.0.len()))
    }

    pub(super) fn address(&self, host: usize) -> Result<IpAddr> {
        self.of(host)?;
        let last = FIRST_HOST.checked_add(u8::try_from(host)?).context("the network has 256 addresses")?;
        Ok(Ipv4Addr::new(10, 0, 0, last).into())
    }

    pub(super) fn place(&self, host: usize, command: &mut Command) -> Result<()> {
        self.of(host)?.place(command);
        Ok(())
    }

    pub(super) fn cut(&self, from: usize, to: usize) -> Result<()> {
        let element = format!("{{ {} }}", self.address(from)?);
        self.of(to)?.run(NFT, &["add", "element", "inet", "cuts", "senders", &element])
    }

    pub(super) fn set_link(&self, host: usize, link: Link) -> Result<()> {
        self.of(host)?;
        let state = match link {
            Link::Up => "up",
            Link::Down => "down",
        };
        ip(&["link", "set", &port(host), state])
    }

    pub(super) fn heal(&self) -> Result<()> {
        for (host, namespace) in self.0.iter().enumerate() {
            namespace.run(NFT, &["flush", "set", "inet", "cuts", "senders"])?;
            self.set_link(host, Link::Up)?;
        }
        Ok(())
    }
}

const NFT: &str = "nft";

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

/// The bridge's end of a host's cable.
fn port(host: usize) -> String {
    format!("port{host}")
}
