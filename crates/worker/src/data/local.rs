//! Clients on this host: descriptors of cached files over the Unix socket. They read, and check, by themselves.

use crate::data::reply::Reply;
use crate::data::server::Session;
use crate::disk_threads::Disk;
use crate::error::{ConnectionError, RequestError};
use crate::fetch::demand;
use crate::fetch::feed::Origin;
use crate::fetch::fill::{Fill, first_run, verify};
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::Node;
use forebay_base::{FileId, InodeId};
use forebay_cache::{Access, LEASE_GRACE, Lease, Run};
use forebay_proto::frame::{
    Kind, LocalCloseHead, LocalFillHead, LocalOpenHead, LocalOpenedHead, READ_LEN_MAX, encode_frame,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The descriptors handed out over one connection. They are taken back [`LEASE_GRACE`] after it has closed.
pub(crate) struct Leases {
    held: HashMap<FileId, Vec<Arc<Lease>>>,
    count: usize,
    count_max: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Leases {
    pub(crate) fn new(node: &Node) -> Leases {
        let (tasks, stop) = (node.tasks.clone(), node.stop.clone());
        Leases { held: HashMap::new(), count: 0, count_max: node.limits.leases_per_connection_max, tasks, stop }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_full(&self) -> bool {
        self.count >= self.count_max
    }

    /// The latest lease of a file, if it is still the file that later pages go into, and its disk answers.
    fn current(&self, id: FileId) -> Option<Arc<Lease>> {
        let lease = self.held.get(&id)?.last()?;
        (!lease.is_stale()).then(|| lease.clone())
    }

    fn keep(&mut self, id: FileId, lease: Arc<Lease>) {
        self.count += 1;
        self.held.entry(id).or_default().push(lease);
    }

    /// Takes all leases of a file back.
    fn close(&mut self, id: FileId) -> Vec<Arc<Lease>> {
        let leases = self.held.remove(&id).unwrap_or_default();
        self.count -= leases.len();
        leases
    }
}

impl Drop for Leases {
    /// The connection has ended, however it did, but the client may believe for a moment yet that it stands.
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() || self.stop.is_cancelled() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // A worker that stops punches nothing any more, and must let go of its directories.
            let _ = tokio::time::timeout(LEASE_GRACE, stop.cancelled()).await;
            drop(held);
        });
    }
}

/// Answers a `LocalOpen`.
pub(crate) async fn open(session: &mut Session, request: u64, head: LocalOpenHead) -> Result<(), ConnectionError> {
    let leased = lease(session, &head).await;
    match leased {
        Ok(lease) => {
            let tier = lease.tier().as_str().to_owned();
            let frame = encode_frame(Kind::LocalOpened, request, &LocalOpenedHead { tier }, 0);
            let descriptors = [lease.data(), lease.checksums()];
            session.connection.send_with_descriptors(&frame, descriptors).await
        }
        Err(error) => Reply::new(&mut session.connection, request).error(&error).await,
    }
}

async fn lease(session: &mut Session, head: &LocalOpenHead) -> Result<Arc<Lease>, RequestError> {
    if !session.connection.is_local() {
        return Err(RequestError::Invalid("descriptors can only be had over the worker's Unix socket".into()));
    }
    let file = session.node.check_ticket(&head.ticket).await?;
    file.check_read()?;
    if let Some(lease) = session.leases.current(file.id) {
        return Ok(lease);
    }
    let refused = "no more descriptors can be handed out; read over the connection";
    if session.leases.is_full() {
        return Err(RequestError::Unavailable(refused.into()));
    }
    let (pages, id) = (session.node.pages.clone(), file.id);
    let lease = session.node.disks.run(Disk::Any, move || pages.lease(file.id, file.meta)).await;
    let lease = lease?.ok_or_else(|| RequestError::Unavailable(refused.into()))?;
    let lease = Arc::new(lease);
    session.leases.keep(id, lease.clone());
    Ok(lease)
}

/// Answers a `LocalFill`.
pub(crate) async fn fill(session: &mut Session, request: u64, head: LocalFillHead) -> Result<(), ConnectionError> {
    let mut reply = Reply::new(&mut session.connection, request);
    let filled = fill_range(&session.node, &session.leases, &head);
    let filled = reply.while_waiting(head.offset, filled).await?;
    match filled {
        Ok((hit, missed)) => reply.done(hit, missed).await,
        Err(error) => reply.error(&error).await,
    }
}

async fn fill_range(node: &Arc<Node>, leases: &Leases, head: &LocalFillHead) -> Result<(u64, u64), RequestError> {
    if head.length > READ_LEN_MAX {
        return Err(RequestError::Invalid(format!(
            "a fill of {} bytes is too long: at most {READ_LEN_MAX} bytes are allowed",
            head.length
        )));
    }
    let file = node.check_ticket(&head.ticket).await?;
    file.check_read()?;
    let range = file.clamp(head.offset, head.length);
    if head.verify {
        verify_range(node, &file, range.clone()).await?;
    }
    let mut fill = Fill::new(node, &file, range.clone());
    while fill.step().await? {}
    if head.read_ahead > 0 {
        demand::read_ahead(node, &file, range.end, head.read_ahead, Origin::Client);
    }
    if let Some(lease) = leases.current(file.id) {
        localize(node, lease, range).await?;
    }
    // The client does not report what it reads of this range by itself.
    node.counters.served(fill.hit, fill.missed);
    Ok((fill.hit, fill.missed))
}

/// Pages may lie in another directory than the leased file.
async fn localize(node: &Node, lease: Arc<Lease>, range: Range<u64>) -> Result<(), RequestError> {
    match node.disks.run(Disk::Any, move || lease.localize(range)).await? {
        true => Ok(()),
        false => Err(RequestError::Unavailable(
            "the range cannot be kept in the cached file; read it over the connection".into(),
        )),
    }
}

/// Drops the damaged pages of a range.
async fn verify_range(node: &Arc<Node>, file: &Arc<TicketFile>, range: Range<u64>) -> Result<(), RequestError> {
    let mut rest = range;
    while !rest.is_empty() {
        rest.start = match first_run(node, file, rest.clone(), Access::Peek).await? {
            Run::Missing { range, .. } => range.end,
            Run::Present(pinned) => {
                let end = pinned.range().end;
                if verify(node, pinned).await?.is_none() {
                    metrics::counter!(names::DAMAGED_PAGES).increment(1);
                }
                end
            }
        };
    }
    Ok(())
}

/// Bytes of one report that are believed: a client that says more spoils the ratio of hits, and no more than that.
const READ_BYTES_MAX: u64 = 1 << 40;

/// Answers a `LocalClose`.
pub(crate) async fn close(session: &mut Session, request: u64, head: LocalCloseHead) -> Result<(), ConnectionError> {
    if head.read_bytes > 0 {
        // What a client reads by itself is served by us all the same.
        session.node.counters.served(head.read_bytes.min(READ_BYTES_MAX), 0);
    }
    drop(session.leases.close(FileId { inode: InodeId(head.inode), version: head.version }));
    Reply::new(&mut session.connection, request).done(0, 0).await
}
