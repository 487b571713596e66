//! Putting a part into the page store while it is on its way to the under store.
//!
//! Its pages are written one by one by the file's own thread ([`crate::fetch::writer`]): parts of one file that arrive together would only wait for each other. A disk that
//! does not answer keeps the one page in memory that is being written; what waits behind it is given up.

use crate::fetch::flight::FileFlights;
use crate::fetch::writer::May;
use crate::file::TicketFile;
use crate::node::Node;
use bytes::{Bytes, BytesMut};
use forebay_base::PageIndex;
use forebay_base::checksum::CHECKSUM_CHUNK;
use forebay_cache::{FileMeta, Reservation, Stored};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Arc, OnceLock};
use tokio::sync::SetOnce;

/// How it ended in the under store, as far as that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What has been cached may stay.
    Stored,
    /// Nothing of it may stay.
    Failed,
}

/// A part as it has come: its bytes, and the checksum of each piece, cut where the file's chunks end. They have been compared.
pub(crate) struct Body {
    pub(crate) bytes: Vec<Bytes>,
    pub(crate) checksums: Vec<u32>,
}

/// A part on its way into the page store.
pub(crate) struct Caching {
    node: Arc<Node>,
    file: Arc<TicketFile>,
    /// For the file's thread: it lasts as long as parts are on their way.
    flights: Arc<FileFlights>,
    meta: FileMeta,
    /// Of the part, in the file.
    range: Range<u64>,
    /// Those that lie whole in it.
    pages: Range<u32>,
    /// None: the page store has no place for them.
    reservation: OnceLock<Option<Reservation>>,
    state: Mutex<State>,
    /// Pages not looked at yet.
    left: AtomicUsize,
    done: SetOnce<()>,
    /// Nothing of a part that has failed is cached any more.
    dropped: SetOnce<()>,
}

#[derive(Default)]
struct State {
    /// The part; none when no more of it shall be cached.
    body: Option<Body>,
    /// The first word counts.
    verdict: Option<Verdict>,
    /// These pages have been.
    written: Vec<PageIndex>,
    /// They are being dropped.
    dropping: bool,
}

impl Caching {
    /// Has the pages written that lie whole in `range`.
    pub(crate) fn start(
        node: &Arc<Node>,
        file: &Arc<TicketFile>,
        meta: FileMeta,
        range: Range<u64>,
        body: Body,
    ) -> Arc<Caching> {
        let pages = whole_pages(file.page_size(), meta, &range);
        let caching = Arc::new(Caching {
            flights: node.flights.of(file.id),
            node: node.clone(),
            file: file.clone(),
            meta,
            range,
            left: AtomicUsize::new(pages.len()),
            pages: pages.clone(),
            reservation: OnceLock::new(),
            state: Mutex::new(State { body: Some(body), ..State::default() }),
            done: SetOnce::new(),
            dropped: SetOnce::new(),
        });
        if pages.is_empty() {
            let _ = caching.done.set(());
        }
        for page in pages {
            let (this, page_len) = (caching.clone(), file.page_size() as usize);
            let job = move |may| this.job(page, may);
            caching.flights.writer.run(&node.disks, &node.tasks, page_len, job);
        }
        caching
    }

    /// Has it end after the page at hand; the first word counts.
    pub(crate) fn end(self: &Arc<Self>, verdict: Verdict) {
        let mut state = self.state.lock();
        state.body = None;
        state.verdict.get_or_insert(verdict);
        drop(state);
        if self.done.initialized() {
            self.drop_failed();
        }
    }

    /// Waits until all pages have been written, or will not be. Cancel-safe.
    pub(crate) async fn done(&self) {
        self.done.wait().await;
    }

    /// Waits until nothing is left of a part that has failed: who asks next finds none of it. Cancel-safe.
    pub(crate) async fn dropped(&self) {
        self.dropped.wait().await;
    }

    fn job(self: &Arc<Self>, page: u32, may: May) {
        match may {
            May::Write => self.write(PageIndex(page)),
            May::GiveUp => self.state.lock().body = None,
        }
        if self.left.fetch_sub(1, AcqRel) == 1 {
            let _ = self.done.set(());
            self.drop_failed();
        }
    }

    /// Writes a page (*blocking*).
    fn write(&self, page: PageIndex) {
        let page_size = self.file.page_size();
        let start = u64::from(page.0) * page_size;
        let range = start - self.range.start..(start + page_size).min(self.range.end) - self.range.start;
        let Some((bytes, checksums)) = self.page(&range) else {
            return;
        };
        let reserve = || self.node.pages.reserve(self.file.id, self.meta, self.pages.clone());
        let Some(reservation) = self.reservation.get_or_init(reserve) else {
            self.state.lock().body = None;
            return;
        };
        if reservation.write(page, &bytes, checksums.as_deref()) == Stored::Yes {
            self.state.lock().written.push(page);
        }
    }

    /// The bytes of `range` of the part, and their checksums as they came with it; they are made anew where the part does not begin with a chunk.
    fn page(&self, range: &Range<u64>) -> Option<(Bytes, Option<Vec<u32>>)> {
        let state = self.state.lock();
        let body = state.body.as_ref()?;
        let chunk = CHECKSUM_CHUNK as u64;
        let chunks = (range.start / chunk) as usize..range.end.div_ceil(chunk) as usize;
        let checksums = body.checksums.get(chunks).filter(|_| self.range.start.is_multiple_of(chunk));
        Some((gather(&body.bytes, range.clone()), checksums.map(<[u32]>::to_vec)))
    }

    /// Drops what has been cached of a part that has failed, on a thread that may wait.
    fn drop_failed(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.verdict != Some(Verdict::Failed) || std::mem::replace(&mut state.dropping, true) {
            return;
        }
        let written = std::mem::take(&mut state.written);
        drop(state);
        let (this, pages, disks) = (self.clone(), self.node.pages.clone(), self.node.disks.clone());
        let id = self.file.id;
        let drop_all = move || written.into_iter().for_each(|page| pages.drop_page(id, page));
        self.node.tasks.spawn(async move {
            if disks.run_to_end(crate::disk_threads::Disk::Any, drop_all).await.is_ok() {
                let _ = this.dropped.set(());
            }
        });
    }
}

/// Whoever waits for it; dropping this ends it.
pub(crate) struct Asker(pub(crate) Arc<Caching>);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.end(Verdict::Stored);
    }
}

/// The pages that lie whole in a part. The last of a file may be short.
fn whole_pages(page_size: u64, meta: FileMeta, range: &Range<u64>) -> Range<u32> {
    let end = match meta.length {
        Some(_) => range.end.div_ceil(page_size),
        None => range.end / page_size,
    };
    match (u32::try_from(range.start.div_ceil(page_size)), u32::try_from(end)) {
        (Ok(first), Ok(end)) => first..end.max(first),
        _ => 0..0,
    }
}

/// The bytes of `range` of a body in parts; shared when they lie in one part.
fn gather(body: &[Bytes], range: Range<u64>) -> Bytes {
    let (mut start, mut len) = (range.start as usize, (range.end - range.start) as usize);
    let mut out = BytesMut::new();
    for part in body {
        if start >= part.len() {
            start -= part.len();
            continue;
        }
        let taken = len.min(part.len() - start);
        let piece = part.slice(start..start + taken);
        if out.is_empty() && taken == len {
            return piece;
        }
        out.reserve(len);
        out.extend_from_slice(&piece);
        (start, len) = (0, len - taken);
        if len == 0 {
            break;
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_bytes_are_those_of_the_whole() {
        let whole: Vec<u8> = (0..1000u32).map(|i| (i % 256) as u8).collect();
        let body: Vec<Bytes> = whole.chunks(300).map(Bytes::copy_from_slice).collect();
        for range in [0..1000, 0..300, 300..600, 299..301, 10..20, 250..950, 999..1000] {
            let expected = &whole[range.clone()];
            assert_eq!(&gather(&body, range.start as u64..range.end as u64)[..], expected);
        }
    }
}
