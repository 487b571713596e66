//! Sending a file over loopback TCP: the least that any data plane must do.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::sendfile;

/// What one call of sendfile moves, and one read of the receiver.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes a second that `streams` connections receive together, each from a thread that sends the file over and over.
pub fn sendfile_loopback(path: &Path, streams: usize, time: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let started = Instant::now();
        let receivers: Vec<_> =
            (0..streams).map(|_| scope.spawn(move || receive(&TcpStream::connect(address)?, started, time))).collect();
        for _ in 0..streams {
            let (stream, _) = listener.accept()?;
            // Ends when its receiver has had enough and closes the connection.
            scope.spawn(move || send(path, &stream));
        }
        let mut total = 0;
        for receiver in receivers {
            match receiver.join() {
                Ok(bytes) => total += bytes?,
                Err(_) => bail!("a receiving thread panicked"),
            }
        }
        Ok(total as f64 / started.elapsed().as_secs_f64())
    })
}

fn receive(mut stream: &TcpStream, started: Instant, time: Duration) -> Result<u64> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut total = 0;
    while started.elapsed() < time {
        total += stream.read(&mut buffer)? as u64;
    }
    Ok(total)
}

fn send(path: &Path, stream: &TcpStream) -> Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut offset = 0;
    loop {
        if sendfile(stream, &file, Some(&mut offset), PIECE_BYTES)? == 0 || offset >= length {
            offset = 0;
        }
    }
}

/// Reads a second of `clients` connections that each ask for `piece_bytes` at random aligned places, one request at a time,
/// of a thread that answers with `pread` and one `write`: the least that a random read over TCP must do.
pub fn random_over_loopback(path: &Path, piece_bytes: usize, clients: usize, time: Duration) -> Result<f64> {
    let pieces = std::fs::metadata(path)?.len() / piece_bytes as u64;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let started = Instant::now();
        let askers: Vec<_> = (0..clients)
            .map(|seed| {
                scope.spawn(move || ask(&TcpStream::connect(address)?, seed as u64, pieces, piece_bytes, started, time))
            })
            .collect();
        for _ in 0..clients {
            let (stream, _) = listener.accept()?;
            scope.spawn(move || answer(path, &stream, piece_bytes));
        }
        let mut total = 0;
        for asker in askers {
            match asker.join() {
                Ok(count) => total += count?,
                Err(_) => bail!("an asking thread panicked"),
            }
        }
        Ok(total as f64 / started.elapsed().as_secs_f64())
    })
}

fn ask(
    mut stream: &TcpStream,
    seed: u64,
    pieces: u64,
    piece_bytes: usize,
    started: Instant,
    time: Duration,
) -> Result<u64> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; piece_bytes];
    let (mut random, mut count) = (seed + 1, 0);
    while started.elapsed() < time {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (random >> 33) % pieces * piece_bytes as u64;
        stream.write_all(&offset.to_le_bytes())?;
        stream.read_exact(&mut buffer)?;
        count += 1;
    }
    Ok(count)
}

fn answer(path: &Path, mut stream: &TcpStream, piece_bytes: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let file = File::open(path)?;
    let mut buffer = vec![0; piece_bytes];
    let mut offset = [0; 8];
    loop {
        // The asker closes the connection when it has had enough.
        stream.read_exact(&mut offset)?;
        file.read_exact_at(&mut buffer, u64::from_le_bytes(offset))?;
        stream.write_all(&buffer)?;
    }
}
