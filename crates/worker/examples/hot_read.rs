//! How fast a worker serves cached bytes over loopback TCP, beside plain `sendfile` of the same bytes: `cargo run --example hot_read`.
//!
//! One connection, a blocking client that takes the bytes and looks at nothing. Both sides share the machine's cores.

use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_cache::{DirSettings, TierKind, TierSettings};
use forebay_proto::frame::{HEADER_LEN, Header, Kind, ReadHead, encode_frame};
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::{ClusterView, MountSpec, WorkerMount};
use forebay_ufs::memory::MemoryUfs;
use forebay_ufs::{Ufs, UfsResult};
use forebay_worker::{OpenStore, Settings, Worker};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LEN: u64 = 256 << 20;
const KEY: &[u8] = b"key";
const ROUND: Duration = Duration::from_secs(2);

struct OneStore(Arc<MemoryUfs>);

impl OpenStore for OneStore {
    fn open(&self, _: &MountSpec) -> UfsResult<Arc<dyn Ufs>> {
        Ok(self.0.clone())
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let store = Arc::new(MemoryUfs::new());
    let meta = store.insert(b"file", vec![7u8; LEN as usize]);
    let ticket = Ticket {
        inode: 1,
        version: 1,
        length: LEN,
        page_size: 1 << 20,
        block_size: 64 << 20,
        mount: 1,
        key: Bytes::from_static(b"file"),
        version_tag: meta.tag.0,
        read: true,
        expires_ms: u64::MAX,
        ..Ticket::default()
    };
    let ticket = ticket.sign(KEY);
    let dirs = vec![DirSettings { path: dir.path().join("cache"), quota: ByteSize::gib(2) }];
    let cache = forebay_cache::Settings::new(vec![TierSettings { kind: TierKind::Ssd, dirs }]);
    let mut settings = Settings::new(dir.path().join("data"), cache);
    settings.stores = Arc::new(OneStore(store));
    let worker = runtime.block_on(Worker::start(settings))?;
    worker.set_view(&ClusterView {
        epoch: 1,
        workers: vec![worker.address().clone()],
        mounts: vec![WorkerMount { mount: 1, spec: Some(MountSpec::default()) }],
        ticket_keys: vec![Bytes::from_static(KEY)],
        heartbeat_ms: 0,
        settling: false,
    });
    let mut client = Client::connect(worker.addresses().data, ticket)?;
    let cold = Instant::now();
    client.read(0, LEN)?;
    println!("cold, out of memory   {:>10.0} MB/s", LEN as f64 / 1e6 / cold.elapsed().as_secs_f64());
    let limit_server = plain_sendfile(dir.path())?;
    for _ in 0..2 {
        let limit = throughput(&mut |_| drain(&limit_server, LEN, 1 << 20))?;
        println!("plain sendfile        {limit:>10.0} MB/s");
        for range in [64 << 10, 256 << 10, 1 << 20, 8 << 20, 64 << 20, LEN] {
            let ours = throughput(&mut |round| {
                let mut at = 0;
                while at < LEN {
                    client.read(at, range)?;
                    at += range;
                }
                let _ = round;
                Ok(())
            })?;
            println!("reads of {:>8} KiB  {ours:>10.0} MB/s  {:.2}", range >> 10, ours / limit);
        }
    }
    let mut random = StdRng::seed_from_u64(1);
    let (started, mut count) = (Instant::now(), 0u32);
    while started.elapsed() < ROUND {
        client.read(random.random_range(0..LEN - 4096), 4096)?;
        count += 1;
    }
    println!("4 KiB random          {:>10.0} /s", f64::from(count) / started.elapsed().as_secs_f64());
    runtime.block_on(worker.shutdown());
    Ok(())
}

/// MB/s of as many passes over the file as fit into a round.
fn throughput(pass: &mut dyn FnMut(u32) -> Result<()>) -> Result<f64> {
    let (started, mut passes) = (Instant::now(), 0);
    while started.elapsed() < ROUND {
        pass(passes)?;
        passes += 1;
    }
    Ok(f64::from(passes) * LEN as f64 / 1e6 / started.elapsed().as_secs_f64())
}

/// A server that sends the same bytes to everyone who asks with a byte.
fn plain_sendfile(dir: &std::path::Path) -> Result<TcpStream> {
    let path = dir.join("plain");
    std::fs::write(&path, vec![7u8; LEN as usize])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (mut stream, _) = listener.accept()?;
    std::thread::spawn(move || -> Result<()> {
        let file = std::fs::File::open(path)?;
        let mut ask = [0];
        while stream.read(&mut ask)? == 1 {
            let mut at = 0;
            while at < LEN {
                rustix::fs::sendfile(&stream, &file, Some(&mut at), 1 << 20)?;
            }
        }
        Ok(())
    });
    Ok(client)
}

fn drain(mut stream: &TcpStream, len: u64, buffer_len: usize) -> Result<()> {
    stream.write_all(&[1])?;
    let (mut rest, mut buffer) = (len, vec![0; buffer_len]);
    while rest > 0 {
        rest -= stream.read(&mut buffer)? as u64;
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    ticket: Bytes,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: std::net::SocketAddr, ticket: Bytes) -> Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, ticket, buffer: vec![0; 1 << 20] })
    }

    fn read(&mut self, offset: u64, length: u64) -> Result<()> {
        let head = ReadHead { ticket: self.ticket.clone(), offset, length, ..ReadHead::default() };
        self.stream.write_all(&encode_frame(Kind::Read, 1, &head, 0))?;
        loop {
            let mut raw = [0; HEADER_LEN];
            self.stream.read_exact(&mut raw)?;
            let header = Header::decode(&raw).map_err(std::io::Error::other)?;
            let mut rest = header.body_len as usize + header.head_len as usize;
            while rest > 0 {
                let len = rest.min(self.buffer.len());
                rest -= self.stream.read(&mut self.buffer[..len])?;
            }
            match header.kind {
                Kind::Data => {}
                Kind::Done => return Ok(()),
                kind => return Err(std::io::Error::other(format!("answered with {kind:?}"))),
            }
        }
    }
}
