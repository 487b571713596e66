//! Serving a `WritePart`: the part goes into the page store and to the under store at the same time.
//!
//! The part is held in memory whole, since a store may have to send it again; its share of the memory allowed is held as long as any of it ([`super::buffers`]). The pages carry the version that the write makes,
//! for which no read ticket exists before the write is complete, so nobody reads them too early.

use crate::data::buffers::BUFFER_LEN;
use crate::data::caching::{Asker, Body, Caching, Verdict};
use crate::data::reply::Reply;
use crate::data::server::Session;
use crate::data::socket::in_time;
use crate::error::{ConnectionError, RequestError};
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::{Node, permits_for};
use bytes::{Bytes, BytesMut};
use forebay_base::VersionTag;
use forebay_base::checksum::crc32c;
use forebay_cache::FileMeta;
use forebay_proto::frame::{Header, Kind, WritePartHead, WrittenHead, encode_frame, pieces};
use forebay_proto::parts::PartSizes;
use forebay_ufs::{Expected, PartPosition, PutCondition, Ufs, UfsError, UploadId};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Answers one `WritePart`.
pub(crate) async fn serve(session: &mut Session, header: Header, head: WritePartHead) -> Result<(), ConnectionError> {
    let node = session.node.clone();
    let part = match Part::check(&node, &head, header.body_len).await {
        Ok(part) => part,
        Err(error) => {
            // The body is on its way: without taking it the answer could be lost with the connection.
            discard(session, header.body_len).await?;
            return fail(session, header.request, &error).await;
        }
    };
    let mut reply = Reply::new(&mut session.connection, header.request);
    let len = header.body_len;
    let memory = node.memory.clone().acquire_many_owned(permits_for(len));
    let Ok(memory) = reply.while_waiting(head.offset, memory).await? else {
        return Ok(());
    };
    let body = in_time(len, node.limits.time_for_body(len), receive(session, head, len, memory));
    let Some(body) = body.await? else {
        let error = RequestError::DamagedInTransit(format!("part {}", part.position.number));
        return fail(session, header.request, &error).await;
    };
    let mut reply = Reply::new(&mut session.connection, header.request);
    match reply.while_waiting(part.range.start, part.store(&node, body)).await? {
        Ok(tag) => {
            metrics::counter!(names::WRITE_BYTES).increment(len);
            let frame = encode_frame(Kind::Written, header.request, &WrittenHead { tag: tag.0 }, 0);
            session.connection.send(&frame).await
        }
        Err(error) => fail(session, header.request, &error).await,
    }
}

async fn fail(session: &mut Session, request: u64, error: &RequestError) -> Result<(), ConnectionError> {
    metrics::counter!(names::WRITE_FAILURES).increment(1);
    Reply::new(&mut session.connection, request).error(error).await
}

async fn discard(session: &mut Session, len: u64) -> Result<(), ConnectionError> {
    let mut rest = len;
    let mut buffer = BytesMut::new();
    while rest > 0 {
        buffer.clear();
        buffer.reserve(64 << 10);
        let limit = buffer.capacity().min(usize::try_from(rest).unwrap_or(usize::MAX));
        rest -= session.connection.body_some(&mut buffer, limit).await? as u64;
    }
    Ok(())
}

/// The body, checked piece by piece; none when a checksum does not match (the body has been taken whole). It is kept in buffers that are cut at chunks of the file.
async fn receive(
    session: &mut Session,
    head: WritePartHead,
    len: u64,
    mut memory: OwnedSemaphorePermit,
) -> Result<Option<Body>, ConnectionError> {
    let buffers = session.node.buffers.clone();
    let mut checksums = head.checksums.iter();
    let mut pieces = pieces(head.offset, len).peekable();
    let mut bytes = Vec::new();
    let mut intact = true;
    while pieces.peek().is_some() {
        let mut lens = Vec::new();
        let mut filled_len = 0;
        while let Some(piece) = pieces.next_if(|piece| filled_len + piece <= BUFFER_LEN) {
            filled_len += piece;
            lens.push(piece);
        }
        let share = memory.split(memory.num_permits().min(permits_for(filled_len as u64) as usize));
        let mut buffer = buffers.take(filled_len, share);
        let mut missing = buffer.as_mut();
        while !missing.is_empty() {
            let len = missing.len();
            session.connection.body_some(&mut missing, len).await?;
        }
        let mut rest = buffer.as_ref();
        for piece in lens {
            let (piece, tail) = rest.split_at(piece);
            intact &= checksums.next() == Some(&crc32c(piece));
            rest = tail;
        }
        bytes.push(buffer.freeze());
        // A peer on this host brings the next buffer at once.
        tokio::task::yield_now().await;
    }
    Ok(intact.then_some(Body { bytes, checksums: head.checksums }))
}

/// A part that may be stored.
struct Part {
    file: Arc<TicketFile>,
    position: PartPosition,
    range: Range<u64>,
    whole: bool,
}

impl Part {
    async fn check(node: &Node, head: &WritePartHead, len: u64) -> Result<Part, RequestError> {
        let file = node.check_ticket(&head.ticket).await?;
        file.check_write()?;
        let invalid = |what: String| Err(RequestError::Invalid(what));
        let Some(end) = head.offset.checked_add(len) else {
            return invalid("the part ends beyond any file".into());
        };
        if head.checksums.len() != pieces(head.offset, len).count() {
            return invalid(format!("part {} of {len} bytes has {} checksums", head.number, head.checksums.len()));
        }
        if head.whole {
            if head.offset != 0 {
                return invalid(format!("a whole file cannot start at {}", head.offset));
            }
        } else {
            let sizes = PartSizes::new(file.ticket.part_size);
            let (part_size, expected) = (sizes.len_of(head.number), sizes.offset_of(head.number));
            if file.ticket.upload.is_empty() {
                return invalid("the ticket names no upload: ask the master for one first".into());
            }
            if head.number == 0 || expected != head.offset || len == 0 || len > part_size {
                return invalid(format!(
                    "part {} of {len} bytes at {} does not fit parts of {part_size} bytes",
                    head.number, head.offset
                ));
            }
        }
        Ok(Part {
            position: PartPosition { number: head.number, offset: head.offset },
            range: head.offset..end,
            whole: head.whole,
            file,
        })
    }

    /// Stores the part, in the cache too if the ticket says so; what the cache does not take is no error.
    async fn store(&self, node: &Arc<Node>, body: Body) -> Result<VersionTag, RequestError> {
        let store = node.store_of(&self.file).await?;
        let bytes = body.bytes.clone();
        let caching = self
            .file
            .ticket
            .cache_writes
            .then(|| Asker(Caching::start(node, &self.file, self.meta(), self.range.clone(), body)));
        let uploaded = self.upload(store.as_ref(), bytes).await;
        if let Some(Asker(caching)) = &caching {
            let ended = async {
                match uploaded {
                    Ok(_) => caching.done().await,
                    Err(_) => {
                        caching.end(Verdict::Failed);
                        caching.dropped().await;
                    }
                }
            };
            // A disk that takes no more is not waited for: what it has not taken is not cached.
            let _ = tokio::time::timeout(node.disks.patience(), ended).await;
        }
        Ok(uploaded?)
    }

    async fn upload(&self, store: &dyn Ufs, body: Vec<Bytes>) -> Result<VersionTag, UfsError> {
        let ticket = &self.file.ticket;
        if self.whole {
            let condition = match ticket.version_tag.is_empty() {
                true => PutCondition::IfAbsent,
                false => PutCondition::IfTag(ticket.tag()),
            };
            let error = match store.put(&ticket.key, body.clone(), &condition).await {
                Err(error @ (UfsError::AlreadyExists(_) | UfsError::VersionChanged(_))) => error,
                stored => return Ok(stored?.tag),
            };
            // The client may send the part again because the answer of an earlier try was lost, to us or to another worker, on its way or in the store.
            return find_same(store, &ticket.key, &body).await?.ok_or(error);
        }
        let upload = UploadId(ticket.upload.clone());
        let part = store.put_part(&ticket.key, &upload, self.position, body);
        Ok(part.await?.tag)
    }

    /// The length of the file is known when this part ends it.
    fn meta(&self) -> FileMeta {
        let len = self.range.end - self.range.start;
        let full = PartSizes::new(self.file.ticket.part_size).len_of(self.position.number);
        let last = self.whole || len < full;
        FileMeta { page_size: self.file.meta.page_size, length: last.then_some(self.range.end) }
    }
}

/// The tag of the object, if its content is `body`. A store that does not say is an error: the client asks again.
async fn find_same(store: &dyn Ufs, key: &[u8], body: &[Bytes]) -> Result<Option<VersionTag>, UfsError> {
    let length = body.iter().map(|bytes| bytes.len() as u64).sum();
    let found = store.stat(key).await?;
    let Some(found) = found.filter(|found| !found.is_directory() && found.length == length) else {
        return Ok(None);
    };
    let expected = Expected { tag: found.tag.clone(), length };
    let mut stored = match store.read(key, 0..length, &expected).await {
        Err(UfsError::NotFound(_) | UfsError::VersionChanged(_)) => return Ok(None),
        stored => stored?,
    };
    let (mut rest, mut at) = (body.iter().filter(|bytes| !bytes.is_empty()), Bytes::new());
    while let Some(bytes) = stored.next().await {
        let mut bytes = match bytes {
            Err(UfsError::VersionChanged(_)) => return Ok(None),
            bytes => bytes?,
        };
        while !bytes.is_empty() {
            if at.is_empty() {
                let Some(next) = rest.next() else {
                    return Ok(None);
                };
                at = next.clone();
            }
            let len = at.len().min(bytes.len());
            if at.split_to(len) != bytes.split_to(len) {
                return Ok(None);
            }
        }
    }
    let all = at.is_empty() && rest.next().is_none();
    Ok(all.then_some(found.tag))
}
