//! Network namespaces lose what is cut, and nothing else: between two hosts, in each direction, and around one. Told by datagrams of a byte: TCP in one
//! direction alone stalls as soon as an acknowledgement is lost.
//!
//! A program without the usual harness, whose threads would be too many to enter a network. Started with an address it is one end of a connection.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay_testkit::network::{Network, enter_private};

/// What must come comes much sooner.
const SOON: Duration = Duration::from_secs(60);
/// How long what must not come is waited for.
const LITTLE: Duration = Duration::from_millis(300);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

const NAME: &str = "what_is_cut_between_namespaces_is_lost_and_nothing_else";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["listen", address] => pass_on(UdpSocket::bind(address)?, None),
        ["connect", address] => pass_on(UdpSocket::bind("0.0.0.0:0")?, Some(address.parse()?)),
        _ if words.contains(&"--list") => {
            println!("{NAME}: test");
            Ok(())
        }
        _ => match enter_private() {
            Ok(()) => test().inspect(|()| println!("test {NAME} ... ok")),
            Err(why) => {
                println!("test {NAME} ... not tried: {why:#}");
                Ok(())
            }
        },
    }
}

fn test() -> Result<()> {
    let network = Network::of_namespaces(2)?;
    let address = network.address(0)?;
    let mut hosts = Connection::make(&network, SocketAddr::new(address, 1_000), Some(1))?;
    let mut outside = Connection::make(&network, SocketAddr::new(address, 1_001), None)?;
    for connection in [&mut hosts, &mut outside] {
        connection.comes(Way::Up)?;
        connection.comes(Way::Down)?;
    }

    network.cut(1, 0)?;
    hosts.is_lost(Way::Up).context("cut from 1 to 0")?;
    hosts.comes(Way::Down).context("cut from 1 to 0 alone")?;
    outside.comes(Way::Up)?;
    outside.comes(Way::Down)?;
    network.heal()?;
    hosts.comes(Way::Up).context("healed")?;

    network.cut(0, 1)?;
    hosts.is_lost(Way::Down).context("cut from 0 to 1")?;
    hosts.comes(Way::Up).context("cut from 0 to 1 alone")?;
    outside.comes(Way::Up)?;
    outside.comes(Way::Down)?;
    network.heal()?;
    hosts.comes(Way::Down).context("healed")?;

    network.isolate(0)?;
    for connection in [&mut hosts, &mut outside] {
        connection.is_lost(Way::Up).context("host 0 is isolated")?;
        connection.is_lost(Way::Down).context("host 0 is isolated")?;
    }
    network.heal()?;
    for connection in [&mut hosts, &mut outside] {
        connection.comes(Way::Up).context("healed")?;
        connection.comes(Way::Down).context("healed")?;
    }
    Ok(())
}

/// A direction, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// From a host, or from outside, to host 0.
struct Connection {
    client: End,
    server: End,
    /// The last byte that was sent: each is another one.
    last: u8,
}

impl Connection {
    fn make(network: &Network, server: SocketAddr, client_host: Option<usize>) -> Result<Connection> {
        let listening = End::start(network, Some(0), "listen", server)?;
        let client = End::start(network, client_host, "connect", server)?;
        Ok(Connection { client, server: listening, last: 0 })
    }

    fn sender(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.client,
            Way::Down => &mut self.server,
        }
    }

    fn heard(&self, way: Way) -> &Receiver<u8> {
        match way {
            Way::Up => &self.server.heard,
            Way::Down => &self.client.heard,
        }
    }

    /// A byte that is sent now comes, if need be when it is sent again.
    fn comes(&mut self, way: Way) -> Result<()> {
        self.last += 1;
        let (sent, end) = (self.last, Instant::now() + SOON);
        loop {
            self.sender(way).send(sent)?;
            if self.heard(way).recv_timeout(BETWEEN_TRIES).is_ok_and(|came| came == sent) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{way:?}: byte {sent} does not come");
        }
    }

    /// One that is sent now does not, however often.
    fn is_lost(&mut self, way: Way) -> Result<()> {
        self.last += 1;
        let (sent, end) = (self.last, Instant::now() + LITTLE);
        while Instant::now() < end {
            self.sender(way).send(sent)?;
            // An earlier one may still come that was sent twice.
            let came = self.heard(way).recv_timeout(BETWEEN_TRIES);
            ensure!(came != Ok(sent), "{way:?}: byte {sent} was to be lost, and came");
        }
        Ok(())
    }
}

/// One end of a connection: this program as a process of a host, which ends when it hears no more from us.
struct End {
    process: Child,
    input: Option<ChildStdin>,
    heard: Receiver<u8>,
}

impl End {
    fn start(network: &Network, host: Option<usize>, does: &str, address: SocketAddr) -> Result<End> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([does, &address.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(host) = host {
            network.place(host, &mut command)?;
        }
        let mut process = command.spawn().with_context(|| format!("starting an end of host {host:?}"))?;
        let (input, output) = (process.stdin.take(), process.stdout.take().context("it is piped")?);
        let (sender, heard) = mpsc::channel();
        thread::spawn(move || {
            for byte in BufReader::new(output).bytes() {
                let Ok(byte) = byte else { return };
                if sender.send(byte).is_err() {
                    return;
                }
            }
        });
        Ok(End { process, input, heard })
    }

    fn send(&mut self, byte: u8) -> Result<()> {
        let input = self.input.as_mut().context("it is there until the end")?;
        input.write_all(&[byte]).context("an end of a connection has gone")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Passes on what comes on the standard input to the other end, once that is known, and what comes from there to the standard output.
fn pass_on(socket: UdpSocket, other: Option<SocketAddr>) -> Result<()> {
    let (socket, other) = (Arc::new(socket), Arc::new(Mutex::new(other)));
    let (hears, known) = (Arc::clone(&socket), Arc::clone(&other));
    thread::spawn(move || {
        let mut byte = [0];
        loop {
            // Errors tell of what was sent, and of a network that is cut.
            let Ok((1, from)) = hears.recv_from(&mut byte) else { continue };
            known.lock().unwrap_or_else(PoisonError::into_inner).replace(from);
            let mut output = std::io::stdout();
            if output.write_all(&byte).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    for byte in std::io::stdin().lock().bytes() {
        let byte = [byte?];
        if let Some(other) = *other.lock().unwrap_or_else(PoisonError::into_inner) {
            // It is lost then, as it is to be.
            let _ = socket.send_to(&byte, other);
        }
    }
    Ok(())
}
