//! One `Read` request: its bytes, each piece checked.

use super::connection::{Answer, unexpected};
use super::fault::Fault;
use super::pace::Pace;
use super::pool::Pooled;
use super::socket::Sent;
use crate::metrics;
use forebay_base::checksum::{CHECKSUM_CHUNK, crc32c};
use forebay_proto::frame::{Kind, ReadHead};
use std::time::Duration;
use tokio::time::Instant;

/// A range on its way from a worker, in file order.
#[derive(Debug)]
pub(crate) struct RangeRead {
    connection: Pooled,
    /// The next byte of the file that has not been handed out.
    position: u64,
    end: u64,
    frame: Frame,
    /// Anything of this answer has arrived.
    answered: bool,
}

/// What is left of the `Data` frame that is being received.
#[derive(Debug, Default)]
struct Frame {
    body_left: u64,
    checksums: std::vec::IntoIter<u32>,
}

impl RangeRead {
    /// Asks for a range.
    pub(crate) async fn start(mut connection: Pooled, head: &ReadHead, patience: Duration) -> Result<RangeRead, Fault> {
        if connection.send(Kind::Read, head, &[], patience).await? == Sent::Answered {
            return Err(Fault::Broken("an answer came before the request".to_owned()));
        }
        Ok(RangeRead {
            connection,
            position: head.offset,
            end: head.offset + head.length,
            frame: Frame::default(),
            answered: false,
        })
    }

    /// Whether a failure may just mean that the worker had closed the idle connection.
    pub(crate) fn may_be_stale(&self) -> bool {
        !self.answered && self.connection.used_before
    }

    /// Fills `out` with the next bytes. `filled` says how many bytes of it are checked and good, also after a failure.
    ///
    /// `out` must end where a checksum chunk ends or at the end of the range, so that no piece is cut.
    pub(crate) async fn fill(&mut self, out: &mut [u8], filled: &mut usize, patience: Duration) -> Result<(), Fault> {
        debug_assert!({
            let end = self.position + (out.len() - *filled) as u64;
            end == self.end || end.is_multiple_of(CHECKSUM_CHUNK as u64)
        });
        while *filled < out.len() {
            if self.frame.body_left == 0 {
                self.next_frame(patience).await?;
                continue;
            }
            let length = (self.frame.body_left).min((out.len() - *filled) as u64) as usize;
            let body = &mut out[*filled..][..length];
            self.receive(body, filled, patience).await?;
        }
        Ok(())
    }

    async fn next_frame(&mut self, patience: Duration) -> Result<(), Fault> {
        let answer = self.connection.answer(patience).await?;
        self.answered = true;
        match answer {
            Answer::Data { head, body_len } => {
                let fits = body_len <= self.end - self.position;
                if body_len > 0 && (head.offset != self.position || !fits) {
                    let message = format!(
                        "{body_len} bytes at {} came, {} to {} were asked",
                        head.offset, self.position, self.end
                    );
                    return Err(Fault::Broken(message));
                }
                self.frame = Frame { body_left: body_len, checksums: head.checksums.into_iter() };
                Ok(())
            }
            Answer::Error(head) => {
                self.connection.give_back();
                Err(Fault::refused(head))
            }
            Answer::Done(_) => {
                let message = format!("the answer ended at {} of {}", self.position, self.end);
                Err(Fault::Broken(message))
            }
            other => Err(unexpected(other)),
        }
    }

    /// Receives `body`, all of it within the frame, and checks each piece as soon as it is there, while it is in the CPU's cache.
    async fn receive(&mut self, body: &mut [u8], filled: &mut usize, patience: Duration) -> Result<(), Fault> {
        let (mut arrived, mut checked) = (0, 0);
        let mut pace = Pace::begin(Instant::now());
        while checked < body.len() {
            if arrived < body.len() {
                let room = &mut body[arrived..];
                let received = self.connection.receive(room, patience).await?;
                arrived += received;
                if arrived < body.len() {
                    pace.arrived(received, patience, Instant::now())?;
                }
            }
            loop {
                let piece = self.piece_len(body.len() - checked);
                if piece == 0 || arrived - checked < piece {
                    break;
                }
                self.check(&body[checked..][..piece])?;
                checked += piece;
                *filled += piece;
            }
        }
        Ok(())
    }

    /// The length of the piece at the position, of which `left` bytes are wanted.
    fn piece_len(&self, left: usize) -> usize {
        let chunk = CHECKSUM_CHUNK - (self.position % CHECKSUM_CHUNK as u64) as usize;
        chunk.min(left)
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let expected =
            self.frame.checksums.next().ok_or_else(|| Fault::Broken("a frame has too few checksums".to_owned()))?;
        let found = crc32c(piece);
        if found != expected {
            return Err(Fault::BadChecksum { offset: self.position, found, expected });
        }
        self.position += piece.len() as u64;
        self.frame.body_left -= piece.len() as u64;
        Ok(())
    }

    /// Ends a read whose bytes have all been handed out. The `Done` frame is taken if it is there; if not, the next request on
    /// the connection skips it.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        debug_assert_eq!(self.position, self.end);
        if let Some(answer) = self.connection.answer_at_hand()? {
            let Answer::Done(done) = answer else {
                return Err(unexpected(answer));
            };
            metrics::served(done.hit, done.missed);
        }
        self.connection.give_back();
        Ok(())
    }
}
