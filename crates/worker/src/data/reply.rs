//! The frames of an answer.

use crate::data::socket::Connection;
use crate::error::{ConnectionError, RequestError};
use crate::metrics as names;
use bytes::Bytes;
use forebay_base::checksum::Crc32c;
use forebay_proto::frame::{DataHead, DoneHead, Kind, append_frame, encode_frame, pieces};
use std::io::IoSlice;
use std::pin::pin;
use std::time::Duration;

/// An asker who hears nothing takes a worker for dead after a few of these.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(1);

/// One answer on a connection.
pub(crate) struct Reply<'a> {
    pub(crate) connection: &'a mut Connection,
    request: u64,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(connection: &'a mut Connection, request: u64) -> Reply<'a> {
        Reply { connection, request }
    }

    /// The header and head of a data frame whose body the caller sends next.
    pub(crate) fn data_head(&self, offset: u64, body_len: u64, checksums: Vec<u32>) -> Vec<u8> {
        encode_frame(Kind::Data, self.request, &DataHead { offset, checksums }, body_len)
    }

    /// A data frame whose body is in memory.
    pub(crate) async fn data(&mut self, offset: u64, body: &[Bytes]) -> Result<(), ConnectionError> {
        let len = body.iter().map(|part| part.len() as u64).sum();
        let head = self.data_head(offset, len, checksums(offset, len, body));
        let mut parts = Vec::with_capacity(1 + body.len());
        parts.push(IoSlice::new(&head));
        parts.extend(body.iter().map(|part| IoSlice::new(part)));
        self.connection.send_parts(&mut parts).await
    }

    /// Waits for `work`, and lets the asker know now and then that somebody is at it: by `Data` without a body. An asker who closes the connection has the
    /// work dropped: nobody takes its result, and a part that was given up must not come to its store later.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        offset: u64,
        work: impl Future<Output = T>,
    ) -> Result<T, ConnectionError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                gone = self.connection.hung_up() => return Err(gone),
                () = tokio::time::sleep(SIGN_OF_LIFE_EVERY) => self.data(offset, &[]).await?,
            }
        }
    }

    /// A data frame whose body is in memory and has its checksums, and the end of the answer (`hit`, `missed`) with it if there is one.
    pub(crate) async fn data_with_end(
        &mut self,
        offset: u64,
        body: &[u8],
        checksums: Vec<u32>,
        end: Option<(u64, u64)>,
    ) -> Result<(), ConnectionError> {
        let head = self.data_head(offset, body.len() as u64, checksums);
        let mut done = Vec::new();
        if let Some((hit, missed)) = end {
            self.append_done(&mut done, hit, missed);
        }
        self.connection.send_parts(&mut [IoSlice::new(&head), IoSlice::new(body), IoSlice::new(&done)]).await
    }

    /// Appends the frame of the end to `out`.
    pub(crate) fn append_done(&self, out: &mut Vec<u8>, hit: u64, missed: u64) {
        append_frame(out, Kind::Done, self.request, &DoneHead { hit, missed }, 0);
    }

    /// The end of an answer.
    pub(crate) async fn done(&mut self, hit: u64, missed: u64) -> Result<(), ConnectionError> {
        let mut out = Vec::new();
        self.append_done(&mut out, hit, missed);
        self.connection.send(&out).await
    }

    /// The end of an answer that failed.
    pub(crate) async fn error(&mut self, error: &RequestError) -> Result<(), ConnectionError> {
        let kind = error.kind();
        metrics::counter!(names::REQUEST_FAILURES, "kind" => kind.as_str()).increment(1);
        tracing::debug!(%error, "data request failed");
        let frame = encode_frame(Kind::Error, self.request, &error.head(), 0);
        self.connection.send(&frame).await
    }
}

/// The checksums of a body that comes in parts.
fn checksums(offset: u64, len: u64, body: &[Bytes]) -> Vec<u32> {
    let mut parts = body.iter();
    let mut part: &[u8] = &[];
    pieces(offset, len)
        .map(|mut piece| {
            let mut crc = Crc32c::new();
            while piece > 0 {
                if part.is_empty() {
                    part = parts.next().expect("the parts are as long as the body");
                    continue;
                }
                let (now, later) = part.split_at(piece.min(part.len()));
                crc.update(now);
                piece -= now.len();
                part = later;
            }
            crc.finalize()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_proto::frame::checksum_pieces;

    #[test]
    fn parts_do_not_change_checksums() {
        let body: Vec<u8> = (0..100_000u32).map(|i| (i % 253) as u8).collect();
        for cuts in [vec![], vec![1], vec![0, 16384, 16384], vec![5, 50_000, 99_999]] {
            let mut parts = Vec::new();
            let mut rest = Bytes::from(body.clone());
            let mut at = 0;
            for cut in cuts {
                parts.push(rest.split_to(cut - at));
                at = cut;
            }
            parts.push(rest);
            for offset in [0, 777, 16384] {
                let expected = checksum_pieces(offset, &body);
                assert_eq!(checksums(offset, body.len() as u64, &parts), expected);
            }
        }
    }
}
