//! One connection to a worker: frames out, frames in.

use super::fault::Fault;
use super::pace::Pace;
use super::socket::{Sent, Socket};
use forebay_proto::frame::{
    DataHead, DoneHead, ErrorHead, HEADER_LEN, Header, Kind, LocalOpenedHead, WrittenHead, decode_head, encode_frame,
};
use prost::Message;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of the receive buffer. The whole answer to a 16 KiB read fits, so that it costs one system call; bodies of larger ones go
/// to where the caller wants them, and only the headers behind them here.
const BUFFER_LEN: usize = 24 << 10;

/// A connection, used by one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) socket: Socket,
    /// `buffer[start..end]` has arrived and is not used yet.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The id of the last request.
    request: u64,
    /// A request before this one was answered, so a failure may just mean that the worker closed an idle connection.
    pub(crate) used_before: bool,
    /// A request is being sent. If this is seen later, its sender was dropped in the middle of it.
    sending: bool,
    /// What the worker answered before it had all of the request.
    early: Option<Answer>,
}

/// A frame of an answer. A `Data` frame's body follows on the connection.
#[derive(Debug)]
pub(crate) enum Answer {
    Data {
        head: DataHead,
        body_len: u64,
    },
    Done(DoneHead),
    Written(WrittenHead),
    /// Descriptors came with it: [`Connection::take_descriptors`].
    LocalOpened,
    Error(ErrorHead),
}

impl Answer {
    /// `Data` without a body: the worker waits for something, but it is there.
    fn is_sign_of_life(&self) -> bool {
        matches!(self, Answer::Data { body_len: 0, .. })
    }
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> Connection {
        Connection {
            socket,
            buffer: vec![0; BUFFER_LEN],
            start: 0,
            end: 0,
            request: 0,
            used_before: false,
            sending: false,
            early: None,
        }
    }

    /// Sends a request with a body.
    pub(crate) async fn send(
        &mut self,
        kind: Kind,
        head: &impl Message,
        body: &[&[u8]],
        patience: Duration,
    ) -> Result<Sent, Fault> {
        if std::mem::replace(&mut self.sending, true) {
            return Err(Fault::Broken("an earlier request was sent in part only".to_owned()));
        }
        self.request += 1;
        let body_len: usize = body.iter().map(|slice| slice.len()).sum();
        let start = encode_frame(kind, self.request, head, body_len as u64);
        let mut bufs: Vec<IoSlice<'_>> =
            std::iter::once(&start[..]).chain(body.iter().copied()).map(IoSlice::new).collect();
        let mut rest = &mut bufs[..];
        while self.socket.write_all(&mut rest, patience).await? == Sent::Answered {
            // A sign of life of who has no room for the body yet, the end of an earlier answer, or a real answer.
            let (header, answer) = self.frame(patience).await?;
            if self.is_answer(&header, &answer)? && !answer.is_sign_of_life() {
                self.early = Some(answer);
                return Ok(Sent::Answered);
            }
        }
        self.sending = false;
        Ok(Sent::All)
    }

    /// The number that the next request gets; none while the last one was sent in part only.
    pub(crate) fn next_request(&self) -> Option<u64> {
        (!self.sending).then_some(self.request + 1)
    }

    /// The descriptors that came with the last answer.
    pub(crate) fn take_descriptors(&self) -> Vec<OwnedFd> {
        self.socket.take_descriptors()
    }

    /// The next frame of the answer to the last request. What may still come of an earlier answer, whose bytes were all
    /// there but not its end, is skipped.
    pub(crate) async fn answer(&mut self, patience: Duration) -> Result<Answer, Fault> {
        if let Some(answer) = self.early.take() {
            return Ok(answer);
        }
        loop {
            let (header, answer) = self.frame(patience).await?;
            if self.is_answer(&header, &answer)? {
                return Ok(answer);
            }
        }
    }

    async fn frame(&mut self, patience: Duration) -> Result<(Header, Answer), Fault> {
        self.arrived(HEADER_LEN, patience).await?;
        let bytes = self.buffer[self.start..][..HEADER_LEN].try_into().expect("a slice of the header's length");
        let header = Header::decode(bytes)?;
        let head_len = header.head_len as usize;
        self.arrived(HEADER_LEN + head_len, patience).await?;
        let head = &self.buffer[self.start + HEADER_LEN..][..head_len];
        let answer = decode(&header, head)?;
        self.start += HEADER_LEN + head_len;
        Ok((header, answer))
    }

    /// Whether a frame belongs to the last request. Otherwise it must be such that it can be skipped.
    fn is_answer(&self, header: &Header, answer: &Answer) -> Result<bool, Fault> {
        if header.request == self.request {
            return Ok(true);
        }
        let is_bodiless = matches!(answer, Answer::Done(_) | Answer::Error(_)) || answer.is_sign_of_life();
        if !is_bodiless || header.request > self.request {
            let (got, asked) = (header.request, self.request);
            let message = format!("answer to request {got} came, {asked} was asked");
            return Err(Fault::Broken(message));
        }
        Ok(false)
    }

    /// The next frame that is more than a sign of life.
    pub(crate) async fn answer_after_signs_of_life(&mut self, patience: Duration) -> Result<Answer, Fault> {
        loop {
            let answer = self.answer(patience).await?;
            if !answer.is_sign_of_life() {
                return Ok(answer);
            }
        }
    }

    /// The next frame, if it has arrived whole.
    pub(crate) fn answer_at_hand(&mut self) -> Result<Option<Answer>, Fault> {
        let arrived = &self.buffer[self.start..self.end];
        let Some((header, rest)) = arrived.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::decode(header)?;
        let Some(head) = rest.get(..header.head_len as usize) else {
            return Ok(None);
        };
        let answer = decode(&header, head)?;
        self.start += HEADER_LEN + head.len();
        Ok(Some(answer))
    }

    /// Receives bytes of a body into `out`, at least one. Bytes behind it that arrive with it are kept.
    pub(crate) async fn receive(&mut self, out: &mut [u8], patience: Duration) -> Result<usize, Fault> {
        let buffered = &self.buffer[self.start..self.end];
        if !buffered.is_empty() {
            let taken = buffered.len().min(out.len());
            out[..taken].copy_from_slice(&buffered[..taken]);
            self.start += taken;
            return Ok(taken);
        }
        let wanted = out.len();
        let mut bufs = [IoSliceMut::new(out), IoSliceMut::new(&mut self.buffer)];
        let read = self.socket.read_vectored(&mut bufs, patience).await?;
        self.start = 0;
        self.end = read.saturating_sub(wanted);
        match read {
            0 => Err(Fault::closed()),
            _ => Ok(read.min(wanted)),
        }
    }

    /// Waits until at least `len` bytes are in the buffer.
    async fn arrived(&mut self, len: usize, patience: Duration) -> Result<(), Fault> {
        let mut pace = None;
        while self.end - self.start < len {
            if self.start + len > self.buffer.len() || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            // A head may be longer than the buffer; Header::decode has checked its bound.
            if len > self.buffer.len() {
                self.buffer.resize(len, 0);
            }
            let mut room = [IoSliceMut::new(&mut self.buffer[self.end..])];
            match self.socket.read_vectored(&mut room, patience).await? {
                0 => return Err(Fault::closed()),
                read => {
                    self.end += read;
                    // Silence is in order until a frame begins.
                    let pace = pace.get_or_insert_with(|| Pace::begin(Instant::now()));
                    if self.end - self.start < len {
                        pace.arrived(read, patience, Instant::now())?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn decode(header: &Header, head: &[u8]) -> Result<Answer, Fault> {
    let answer = match header.kind {
        Kind::Data => Answer::Data { head: decode_head(head)?, body_len: header.body_len },
        Kind::Done => Answer::Done(decode_head(head)?),
        Kind::Error => Answer::Error(decode_head(head)?),
        Kind::Written => Answer::Written(decode_head(head)?),
        Kind::LocalOpened => decode_head::<LocalOpenedHead>(head).map(|_| Answer::LocalOpened)?,
        Kind::Read | Kind::WritePart | Kind::LocalOpen | Kind::LocalFill | Kind::LocalClose => {
            return Err(unexpected(header.kind));
        }
    };
    if header.body_len > 0 && header.kind != Kind::Data {
        return Err(Fault::Broken(format!("{:?} frame with a body", header.kind)));
    }
    Ok(answer)
}

/// A peer that breaks the protocol.
pub(crate) fn unexpected(what: impl std::fmt::Debug) -> Fault {
    Fault::Broken(format!("unexpected answer {what:?}"))
}
