//! A worker of the fake cluster: the data plane, with faults.

use super::{KEY, State};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_proto::frame::*;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::WorkerAddress;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: for plans in which only a later request fails.
    None,
    /// The body stops after so many bytes, and nothing follows.
    Stall(usize),
    /// After so many bytes the body comes byte by byte, for ever longer than anybody waits.
    Trickle(usize),
    /// The connection is closed after so many bytes of the body.
    Reset(usize),
    /// The byte at this place of the body is another than the checksum was made of.
    Flip(usize),
    /// As `Flip`, but also when asked to verify: the worker's own check sees nothing.
    FlipAlways(usize),
    /// An error frame after so many bytes.
    Refuse(usize, ErrorKind, &'static str),
    /// Bytes that are no frame.
    Garbage,
    /// `Done` comes too early.
    Short(usize),
    /// The part is stored, but the answer gets lost.
    LoseAnswer,
    /// The part is stored after so long.
    Slow(Duration),
}

pub struct FakeWorker {
    pub reads: Arc<Mutex<Vec<ReadHead>>>,
    pub parts: Arc<Mutex<Vec<WritePartHead>>>,
    /// Applied to the next requests, one each.
    pub faults: Arc<Mutex<VecDeque<Fault>>>,
    /// Applied to every request when `faults` is empty.
    pub always: Arc<Mutex<Fault>>,
    /// Bytes of the bodies of `Data` frames.
    pub frame_len: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
    serving: Arc<Mutex<tokio::task::JoinSet<()>>>,
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl FakeWorker {
    pub async fn start(id: u64, state: Arc<State>) -> FakeWorker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        state.workers.lock().push(WorkerAddress { worker: id, data: address, weight: 1, ..WorkerAddress::default() });
        state.epoch.fetch_add(1, Ordering::Relaxed);
        let worker = Serving {
            state,
            reads: Arc::default(),
            parts: Arc::default(),
            faults: Arc::default(),
            always: Arc::new(Mutex::new(Fault::None)),
            frame_len: Arc::new(AtomicUsize::new(256 << 10)),
        };
        let connections = Arc::new(AtomicUsize::new(0));
        let serving = Arc::new(Mutex::new(tokio::task::JoinSet::new()));
        let task = tokio::spawn(accept(listener, worker.clone(), serving.clone(), connections.clone()));
        FakeWorker {
            reads: worker.reads,
            parts: worker.parts,
            faults: worker.faults,
            always: worker.always,
            frame_len: worker.frame_len,
            connections,
            task,
            serving,
        }
    }

    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().extend(faults);
    }

    /// Dies: the port is closed and all connections break.
    pub fn stop(&self) {
        self.task.abort();
        self.serving.lock().abort_all();
    }

    /// Closes all connections, as a worker does with idle ones.
    pub fn close_connections(&self) {
        self.serving.lock().abort_all();
    }
}

async fn accept(
    listener: TcpListener,
    worker: Serving,
    serving: Arc<Mutex<tokio::task::JoinSet<()>>>,
    connections: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let worker = worker.clone();
        serving.lock().spawn(async move {
            // A client that goes away is no error.
            let _ = worker.serve(stream).await;
        });
    }
}

#[derive(Clone)]
struct Serving {
    state: Arc<State>,
    reads: Arc<Mutex<Vec<ReadHead>>>,
    parts: Arc<Mutex<Vec<WritePartHead>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    always: Arc<Mutex<Fault>>,
    frame_len: Arc<AtomicUsize>,
}

impl Serving {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut header = [0; HEADER_LEN];
            stream.read_exact(&mut header).await?;
            let header = Header::decode(&header).unwrap();
            let mut head = vec![0; header.head_len as usize];
            stream.read_exact(&mut head).await?;
            let mut body = vec![0; header.body_len as usize];
            stream.read_exact(&mut body).await?;
            let fault = self.faults.lock().pop_front();
            let fault = fault.unwrap_or_else(|| self.always.lock().clone());
            let go_on = match header.kind {
                Kind::Read => {
                    let head: ReadHead = decode_head(&head).unwrap();
                    self.reads.lock().push(head.clone());
                    self.read(&mut stream, header.request, head, fault).await?
                }
                Kind::WritePart => {
                    let head: WritePartHead = decode_head(&head).unwrap();
                    self.part(&mut stream, header.request, head, body, fault).await?
                }
                other => panic!("{other:?}"),
            };
            if !go_on {
                return Ok(());
            }
        }
    }

    async fn read(&self, stream: &mut TcpStream, request: u64, head: ReadHead, fault: Fault) -> std::io::Result<bool> {
        let ticket = Ticket::verify(&head.ticket, &[KEY]).unwrap();
        if ticket.expires_ms < self.state.tickets_from.load(Ordering::Relaxed) {
            return refuse(stream, request, ErrorKind::PermissionDenied, "ticket expired").await;
        }
        let file = match self.state.by_ticket(&ticket) {
            None => {
                return refuse(stream, request, ErrorKind::NotFound, "the object is gone").await;
            }
            Some(file) if file.version != ticket.version => {
                return refuse(stream, request, ErrorKind::Conflict, "another version").await;
            }
            Some(file) => file,
        };
        let start = (head.offset as usize).min(file.content.len());
        let end = (start + head.length as usize).min(file.content.len());
        self.send_body(stream, request, &head, &file.content[start..end], fault).await
    }

    async fn send_body(
        &self,
        stream: &mut TcpStream,
        request: u64,
        head: &ReadHead,
        body: &[u8],
        fault: Fault,
    ) -> std::io::Result<bool> {
        let (stop, flip) = match fault {
            Fault::Stall(at) | Fault::Trickle(at) | Fault::Reset(at) | Fault::Refuse(at, ..) | Fault::Short(at) => {
                (at, None)
            }
            Fault::Flip(at) if !head.verify => (usize::MAX, Some(at)),
            Fault::FlipAlways(at) => (usize::MAX, Some(at)),
            Fault::Garbage => {
                stream.write_all(&[7; 100]).await?;
                return Ok(false);
            }
            _ => (usize::MAX, None),
        };
        let mut at = 0;
        for frame in body.chunks(self.frame_len.load(Ordering::Relaxed)) {
            let offset = head.offset + at as u64;
            let data = DataHead { offset, checksums: checksum_pieces(offset, frame) };
            let mut bytes = frame.to_vec();
            if let Some(flip) = flip.filter(|flip| (at..at + frame.len()).contains(flip)) {
                bytes[flip - at] ^= 0x40;
            }
            let start = encode_frame(Kind::Data, request, &data, frame.len() as u64);
            let cut = bytes.len().min(stop.saturating_sub(at));
            if matches!(fault, Fault::Short(_) | Fault::Refuse(..)) && at >= stop {
                break;
            }
            stream.write_all(&start).await?;
            let whole = matches!(fault, Fault::Short(_) | Fault::Refuse(..));
            stream.write_all(if whole { &bytes } else { &bytes[..cut] }).await?;
            if matches!(fault, Fault::Trickle(_)) {
                for byte in &bytes[cut..] {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    stream.write_all(&[*byte]).await?;
                }
            }
            at += frame.len();
            if at > stop && !whole {
                break;
            }
        }
        match fault {
            Fault::Stall(_) => std::future::pending().await,
            Fault::Reset(_) => Ok(false),
            Fault::Refuse(_, kind, message) => refuse(stream, request, kind, message).await,
            _ => {
                let done = encode_frame(Kind::Done, request, &DoneHead::default(), 0);
                stream.write_all(&done).await?;
                Ok(true)
            }
        }
    }

    async fn part(
        &self,
        stream: &mut TcpStream,
        request: u64,
        head: WritePartHead,
        body: Vec<u8>,
        fault: Fault,
    ) -> std::io::Result<bool> {
        assert_eq!(checksum_pieces(head.offset, &body), head.checksums);
        self.parts.lock().push(head.clone());
        let ticket = Ticket::verify(&head.ticket, &[KEY]).unwrap();
        assert!(head.whole || ticket.upload == "upload", "a part before its upload");
        match fault {
            Fault::Stall(_) => std::future::pending().await,
            Fault::Reset(_) => return Ok(false),
            Fault::Refuse(_, kind, message) => return refuse(stream, request, kind, message).await,
            Fault::Slow(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        {
            let mut writes = self.state.writes.lock();
            let Some(write) = writes.get_mut(&ticket.version) else {
                panic!("a part of no write");
            };
            let body = Bytes::from(body);
            match head.whole {
                true => write.whole = Some(body),
                false => drop(write.parts.insert(head.number, body)),
            }
            self.state.stored_parts.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(fault, Fault::LoseAnswer) {
            return Ok(false);
        }
        let tag = if head.whole { "whole tag" } else { "part tag" };
        let written = WrittenHead { tag: tag.to_owned() };
        stream.write_all(&encode_frame(Kind::Written, request, &written, 0)).await?;
        Ok(true)
    }
}

async fn refuse(stream: &mut TcpStream, request: u64, kind: ErrorKind, message: &str) -> std::io::Result<bool> {
    let head = ErrorHead { kind: kind.code(), message: message.to_owned(), hint: String::new() };
    stream.write_all(&encode_frame(Kind::Error, request, &head, 0)).await?;
    Ok(true)
}
