//! Sending a file over loopback TCP: the least that any data plane must do.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
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
