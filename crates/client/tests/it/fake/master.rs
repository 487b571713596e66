//! The control plane of the fake cluster.

use super::{FakeFile, FakeWrite, KEY, PAGE, State};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::cluster_server::{Cluster, ClusterServer};
use forebay_proto::v1::namespace_server::{Namespace, NamespaceServer};
use forebay_proto::v1::*;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub struct FakeMaster {
    pub address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

impl FakeMaster {
    pub async fn start(state: Arc<State>) -> FakeMaster {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        FakeMaster::on(listener, state)
    }

    /// Ends, with all connections, and starts anew at the same address.
    pub async fn restart(&mut self, state: Arc<State>, pause: std::time::Duration) {
        self.task.abort();
        let _ = (&mut self.task).await;
        tokio::time::sleep(pause).await;
        let address: std::net::SocketAddr = self.address.parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        *self = FakeMaster::on(socket.listen(64).unwrap(), state);
    }

    fn on(listener: tokio::net::TcpListener, state: Arc<State>) -> FakeMaster {
        let address = listener.local_addr().unwrap().to_string();
        let serve = tonic::transport::Server::builder()
            .add_service(NamespaceServer::new(Service(state.clone())))
            .add_service(ClusterServer::new(Service(state)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serve.await.unwrap() });
        FakeMaster { address, task }
    }
}

fn error(kind: ErrorKind, message: impl Into<String>) -> Status {
    WireError::new(kind, message).into()
}

impl Service {
    fn find(&self, path: &Bytes) -> Result<FakeFile, Status> {
        let files = self.0.files.lock();
        let missing = || error(ErrorKind::NotFound, format!("no {path:?}"));
        files.get(path).cloned().ok_or_else(missing)
    }

    /// Notes a mutation; whether it came before.
    fn mutation(&self, meta: Option<RequestMeta>) -> Result<bool, Status> {
        let meta = meta.ok_or_else(|| error(ErrorKind::InvalidArgument, "no request id"))?;
        let repeated = {
            let mut mutations = self.0.mutations.lock();
            let is_same = |known: &RequestMeta| (known.client, known.sequence) == (meta.client, meta.sequence);
            let repeated = mutations.iter().any(is_same);
            mutations.push(meta);
            repeated
        };
        self.lose()?;
        Ok(repeated)
    }

    fn lose(&self) -> Result<(), Status> {
        let lose = &self.0.lose_replies;
        let lost = lose.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match lost {
            Ok(_) => Err(Status::unavailable("the connection broke")),
            Err(_) => Ok(()),
        }
    }

    fn ticket(&self, file: &FakeFile, path: &Bytes) -> Bytes {
        Ticket {
            inode: file.inode,
            version: file.version,
            length: file.content.len() as u64,
            page_size: PAGE,
            block_size: file.block_size,
            key: path.clone(),
            version_tag: file.tag.clone(),
            read: true,
            // Stands for the time: see `State::tickets_from`.
            expires_ms: self.0.opens.load(Ordering::Relaxed),
            ..Ticket::default()
        }
        .sign(KEY)
    }

    fn write_ticket(&self, id: u64, write: &FakeWrite) -> Bytes {
        Ticket {
            inode: write.inode,
            version: id,
            block_size: self.0.part_size.load(Ordering::Relaxed) * 2,
            page_size: PAGE,
            write: true,
            part_size: self.0.part_size.load(Ordering::Relaxed),
            upload: if write.upload { "upload".to_owned() } else { String::new() },
            ..Ticket::default()
        }
        .sign(KEY)
    }
}

fn entry(path: Bytes, file: &FakeFile) -> Entry {
    Entry {
        inode: file.inode,
        path,
        length: file.content.len() as u64,
        version: file.version,
        page_size: PAGE,
        block_size: file.block_size,
        complete: true,
        persisted: true,
        version_tag: file.tag.clone(),
        ..Entry::default()
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Namespace for Service {
    async fn stat(&self, request: Request<StatRequest>) -> Reply<StatReply> {
        self.lose()?;
        let path = request.into_inner().path;
        let file = self.find(&path)?;
        Ok(Response::new(StatReply { entry: Some(entry(path, &file)), index: 0 }))
    }

    type ListStream = BoxStream<'static, Result<ListReply, Status>>;

    /// Pages of 10 entries; the stream breaks after each third one while replies are to be lost.
    async fn list(&self, request: Request<ListRequest>) -> Reply<Self::ListStream> {
        let request = request.into_inner();
        let prefix = [&request.path[..], b"/"].concat();
        let files = self.0.files.lock();
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let entries: Vec<Entry> = files
            .iter()
            .filter_map(|(path, file)| Some((path.strip_prefix(&prefix[..])?, file)))
            .filter(|(name, _)| *name > &request.start_after[..])
            .take(limit)
            .map(|(name, file)| entry(Bytes::copy_from_slice(name), file))
            .collect();
        let mut pages: Vec<_> =
            entries.chunks(10).map(|page| Ok(ListReply { entries: page.to_vec(), index: 0 })).collect();
        if pages.len() > 3 && self.lose().is_err() {
            pages.truncate(3);
            pages.push(Err(Status::unavailable("the connection broke")));
        }
        Ok(Response::new(Box::pin(futures::stream::iter(pages))))
    }

    async fn open(&self, request: Request<OpenRequest>) -> Reply<OpenReply> {
        self.0.opens.fetch_add(1, Ordering::Relaxed);
        let OpenRequest { path, bound, .. } = request.into_inner();
        self.0.bounds.lock().push(bound);
        let file = self.find(&path)?;
        Ok(Response::new(OpenReply {
            ticket: self.ticket(&file, &path),
            entry: Some(entry(path, &file)),
            ticket_expires_ms: 0,
            workers_epoch: self.0.epoch.load(Ordering::Relaxed),
            index: self.0.index.load(Ordering::Relaxed),
        }))
    }

    async fn create(&self, request: Request<CreateRequest>) -> Reply<CreateReply> {
        let request = request.into_inner();
        self.mutation(request.meta)?;
        let exists = self.0.files.lock().contains_key(&request.path);
        if exists && !request.overwrite {
            return Err(error(ErrorKind::AlreadyExists, "it is there"));
        }
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let write = FakeWrite {
            path: request.path,
            inode: self.0.next.fetch_add(1, Ordering::Relaxed),
            ..FakeWrite::default()
        };
        let ticket = self.write_ticket(id, &write);
        self.0.writes.lock().insert(id, write);
        Ok(Response::new(CreateReply {
            entry: None,
            write: id,
            ticket,
            ticket_expires_ms: 0,
            part_size: self.0.part_size.load(Ordering::Relaxed),
            lease_ms: self.0.lease_ms.load(Ordering::Relaxed),
            workers_epoch: self.0.epoch.load(Ordering::Relaxed),
            parts_max: self.0.parts_max.load(Ordering::Relaxed),
        }))
    }

    async fn renew_write(&self, request: Request<RenewWriteRequest>) -> Reply<RenewWriteReply> {
        let request = request.into_inner();
        self.0.renewals.fetch_add(1, Ordering::Relaxed);
        if self.0.renewals_hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut writes = self.0.writes.lock();
        let write = writes.get_mut(&request.write).filter(|write| !write.lost);
        let write = write.ok_or_else(|| error(ErrorKind::NotFound, "the lease has ended"))?;
        write.upload |= request.start_upload;
        write.renewals += 1;
        Ok(Response::new(RenewWriteReply {
            ticket: self.write_ticket(request.write, write),
            ticket_expires_ms: 0,
            lease_ms: self.0.lease_ms.load(Ordering::Relaxed),
        }))
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Reply<CompleteReply> {
        let request = request.into_inner();
        let repeated = self.mutation(request.meta)?;
        let mut writes = self.0.writes.lock();
        let write = writes.remove(&request.write).ok_or_else(|| error(ErrorKind::NotFound, "the lease has ended"))?;
        let content = match (&write.whole, request.parts.is_empty()) {
            (Some(whole), true) => whole.to_vec(),
            _ => {
                let numbers: Vec<u32> = request.parts.iter().map(|part| part.number).collect();
                assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{numbers:?}");
                for part in &request.parts {
                    let stored = &write.parts[&part.number];
                    assert_eq!((part.length, part.tag.as_str()), (stored.len() as u64, "part tag"));
                }
                write.parts.values().flatten().copied().collect()
            }
        };
        assert_eq!(content.len() as u64, request.length);
        let file = FakeFile {
            inode: write.inode,
            version: 1,
            content: content.into(),
            block_size: 1 << 20,
            tag: String::new(),
        };
        // The log does not keep the path.
        let path = if repeated { Bytes::new() } else { write.path.clone() };
        let reply = entry(path, &file);
        self.0.files.lock().insert(write.path, file);
        Ok(Response::new(CompleteReply { entry: Some(reply) }))
    }

    async fn abandon_write(&self, request: Request<AbandonWriteRequest>) -> Reply<AbandonWriteReply> {
        let request = request.into_inner();
        self.mutation(request.meta)?;
        self.0.writes.lock().remove(&request.write);
        self.0.abandoned.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(AbandonWriteReply {}))
    }

    async fn make_directory(&self, request: Request<MakeDirectoryRequest>) -> Reply<MakeDirectoryReply> {
        let request = request.into_inner();
        self.mutation(request.meta)?;
        let directory = Entry { path: request.path, kind: EntryKind::Directory.into(), ..Entry::default() };
        Ok(Response::new(MakeDirectoryReply { entry: Some(directory) }))
    }

    async fn content_summary(&self, _: Request<ContentSummaryRequest>) -> Reply<ContentSummaryReply> {
        Err(Status::unimplemented("content_summary"))
    }

    async fn rename(&self, _: Request<RenameRequest>) -> Reply<RenameReply> {
        Err(Status::unimplemented("rename"))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Reply<DeleteReply> {
        Err(Status::unimplemented("delete"))
    }

    async fn set_attributes(&self, _: Request<SetAttributesRequest>) -> Reply<SetAttributesReply> {
        Err(Status::unimplemented("set_attributes"))
    }

    async fn grant_direct_read(&self, request: Request<GrantDirectReadRequest>) -> Reply<GrantDirectReadReply> {
        self.0.grants.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::verify(&request.into_inner().ticket, &[KEY]).unwrap();
        if ticket.expires_ms < self.0.tickets_from.load(Ordering::Relaxed) {
            return Err(error(ErrorKind::PermissionDenied, "the ticket has expired"));
        }
        let store = self.0.store.lock().clone();
        let store = store.ok_or_else(|| error(ErrorKind::InvalidArgument, "clients must not read from the store"))?;
        let directory = store.clone().into_os_string().into_encoded_bytes();
        let way = match self.0.url.lock().clone() {
            Some(url) => grant_direct_read_reply::Way::Http(DirectHttp { url, ..DirectHttp::default() }),
            None => grant_direct_read_reply::Way::Directory(directory.into()),
        };
        Ok(Response::new(GrantDirectReadReply {
            store: format!("file://{}", store.display()),
            key: ticket.key.slice(1..),
            length: ticket.length,
            version_tag: ticket.version_tag,
            lifetime_ms: 60_000,
            way: Some(way),
        }))
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn workers(&self, _: Request<WorkersRequest>) -> Reply<WorkersReply> {
        Ok(Response::new(WorkersReply {
            epoch: self.0.epoch.load(Ordering::Relaxed),
            workers: self.0.workers.lock().clone(),
            settling: self.0.settling.load(Ordering::Relaxed),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusReply> {
        Err(Status::unimplemented("status"))
    }
}
