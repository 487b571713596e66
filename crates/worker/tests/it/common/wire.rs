//! A client of the data plane that does nothing but speak it and check what it hears.

use bytes::{Bytes, BytesMut};
use forebay_base::ErrorKind;
use forebay_proto::frame::*;
use prost::Message;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Client {
    stream: Box<dyn Stream>,
    request: u64,
}

/// An answer to a read, up to its end or its error.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub frames: usize,
    pub end: Result<DoneHead, ErrorHead>,
}

impl Answer {
    /// The bytes of an answer that ended well.
    pub fn ok(self) -> Vec<u8> {
        self.end.expect("the read succeeds");
        self.bytes
    }

    pub fn error_kind(&self) -> ErrorKind {
        self.end.as_ref().expect_err("the read fails").error_kind()
    }
}

impl Client {
    pub async fn tcp(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: Box::new(stream), request: 0 }
    }

    pub async fn unix(path: &Path) -> Client {
        Client { stream: Box::new(UnixStream::connect(path).await.unwrap()), request: 0 }
    }

    pub async fn send(&mut self, kind: Kind, head: &impl Message, body: &[u8]) {
        self.request += 1;
        let mut frame = encode_frame(kind, self.request, head, body.len() as u64);
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Like [`Client::send`] without a body; false when the connection has ended.
    pub async fn try_send(&mut self, kind: Kind, head: &impl Message) -> bool {
        self.request += 1;
        self.stream.write_all(&encode_frame(kind, self.request, head, 0)).await.is_ok()
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// False when the connection has ended.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame; none when the connection is over.
    pub async fn frame(&mut self) -> Option<(Header, Bytes, Vec<u8>)> {
        let mut raw = [0; HEADER_LEN];
        self.stream.read_exact(&mut raw).await.ok()?;
        let header = Header::decode(&raw).unwrap();
        let mut head = BytesMut::zeroed(header.head_len as usize);
        self.stream.read_exact(&mut head).await.ok()?;
        let mut body = vec![0; header.body_len as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((header, head.freeze(), body))
    }

    /// The rest of an answer to a read; none when the connection ends before it does.
    pub async fn answer(&mut self, offset: u64) -> Option<Answer> {
        let (mut bytes, mut frames) = (Vec::new(), 0);
        loop {
            let (header, head, body) = self.frame().await?;
            let end = match header.kind {
                Kind::Data => {
                    let head: DataHead = decode_head(&head).unwrap();
                    assert_eq!(head.offset, offset + bytes.len() as u64, "frames come in file order");
                    assert_eq!(head.checksums, checksum_pieces(head.offset, &body), "checksums match");
                    bytes.extend_from_slice(&body);
                    frames += 1;
                    continue;
                }
                Kind::Done => Ok(decode_head(&head).unwrap()),
                Kind::Error => Err(decode_head(&head).unwrap()),
                kind => panic!("unexpected {kind:?}"),
            };
            return Some(Answer { bytes, frames, end });
        }
    }

    pub async fn read_with(&mut self, head: ReadHead) -> Answer {
        let offset = head.offset;
        self.send(Kind::Read, &head, &[]).await;
        self.answer(offset).await.expect("the answer is whole")
    }

    pub async fn read(&mut self, ticket: &Bytes, offset: u64, length: u64) -> Answer {
        self.read_with(ReadHead { ticket: ticket.clone(), offset, length, ..ReadHead::default() }).await
    }

    /// Sends a part and returns its tag or the error.
    pub async fn write(&mut self, head: WritePartHead, body: &[u8]) -> Result<String, ErrorHead> {
        let head = WritePartHead { checksums: checksum_pieces(head.offset, body), ..head };
        self.send(Kind::WritePart, &head, body).await;
        self.written().await
    }

    pub async fn written(&mut self) -> Result<String, ErrorHead> {
        loop {
            let (header, head, body) = self.frame().await.unwrap();
            match header.kind {
                // A sign of life.
                Kind::Data => assert!(body.is_empty()),
                Kind::Written => return Ok(decode_head::<WrittenHead>(&head).unwrap().tag),
                Kind::Error => return Err(decode_head(&head).unwrap()),
                kind => panic!("unexpected {kind:?}"),
            }
        }
    }

    /// A request that is answered by `Done` or `Error`.
    pub async fn call(&mut self, kind: Kind, head: &impl Message) -> Result<DoneHead, ErrorHead> {
        self.send(kind, head, &[]).await;
        let answer = self.answer(0).await.unwrap();
        assert!(answer.bytes.is_empty());
        answer.end
    }
}

/// A connection for descriptors, with plain blocking calls.
pub struct Descriptors {
    stream: std::os::unix::net::UnixStream,
}

impl Descriptors {
    pub fn connect(path: &Path) -> Descriptors {
        Descriptors { stream: std::os::unix::net::UnixStream::connect(path).unwrap() }
    }

    /// Asks for the descriptors of a file.
    pub fn open(&mut self, ticket: &Bytes) -> Result<(OwnedFd, OwnedFd), ErrorHead> {
        use rustix::net::*;
        use std::io::{IoSliceMut, Read, Write};
        let frame = encode_frame(Kind::LocalOpen, 1, &LocalOpenHead { ticket: ticket.clone() }, 0);
        self.stream.write_all(&frame).unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut raw = [0; HEADER_LEN];
        let got = recvmsg(&self.stream, &mut [IoSliceMut::new(&mut raw)], &mut control, RecvFlags::empty()).unwrap();
        let fds: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        self.stream.read_exact(&mut raw[got.bytes..]).unwrap();
        let header = Header::decode(&raw).unwrap();
        let mut head = vec![0; header.head_len as usize];
        self.stream.read_exact(&mut head).unwrap();
        match header.kind {
            Kind::LocalOpened => {
                let [data, checksums] = <[OwnedFd; 2]>::try_from(fds).unwrap();
                Ok((data, checksums))
            }
            Kind::Error => Err(decode_head(&head).unwrap()),
            kind => panic!("unexpected {kind:?}"),
        }
    }

    /// Asks for `Done`.
    pub fn call(&mut self, kind: Kind, head: &impl Message) -> Result<DoneHead, ErrorHead> {
        use std::io::{Read, Write};
        self.stream.write_all(&encode_frame(kind, 2, head, 0)).unwrap();
        let mut raw = [0; HEADER_LEN];
        self.stream.read_exact(&mut raw).unwrap();
        let header = Header::decode(&raw).unwrap();
        let mut head = vec![0; header.head_len as usize];
        self.stream.read_exact(&mut head).unwrap();
        match header.kind {
            Kind::Done => Ok(decode_head(&head).unwrap()),
            Kind::Error => Err(decode_head(&head).unwrap()),
            kind => panic!("unexpected {kind:?}"),
        }
    }
}
