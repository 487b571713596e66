//! Who holds the other end of a connection on this machine, as the kernel tells it.

use std::fs;
use std::net::SocketAddrV4;

/// The process among `pids` that holds the socket bound to `local` and connected to `remote`.
pub(super) fn owner(pids: impl Iterator<Item = u32>, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (as_in_table(local), as_in_table(remote));
    let inode = table.lines().find_map(|line| inode_of(line, &local, &remote))?;
    let link = format!("socket:[{inode}]");
    pids.into_iter().find(|pid| holds(*pid, &link))
}

/// `sl local rem st queues timer retransmits uid timeout inode …`
fn inode_of<'a>(line: &'a str, local: &str, remote: &str) -> Option<&'a str> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let found = (fields.next()?, fields.next()?);
    (found == (local, remote)).then(|| fields.nth(6))?
}

/// The address in the byte order of the machine, and the port, in hexadecimal.
fn as_in_table(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn holds(pid: u32, link: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    #[test]
    fn a_connection_has_the_owner_that_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (v4(stream.local_addr().unwrap()), v4(stream.peer_addr().unwrap()));
        let own = std::process::id();
        assert_eq!(owner([1, own].into_iter(), local, remote), Some(own));
        assert_eq!(owner([].into_iter(), local, remote), None);
        let elsewhere = SocketAddrV4::new([127, 0, 0, 2].into(), remote.port());
        assert_eq!(owner([own].into_iter(), local, elsewhere), None);
    }
}
