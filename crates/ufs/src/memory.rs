//! A store in memory: the first-class fake. It has the semantics of an object store, exact conditions, and faults on demand.

mod faults;
mod state;

pub use faults::{Fault, Operation};

use crate::failure::{At, Failures};
use crate::object_tree::{self, Probe};
use crate::open::{OpenOptions, check_names, invalid};
use crate::{
    Access, ByteStream, Capabilities, DeleteCondition, DeleteTarget, Expected, ListCursor, ListPage, ObjectKind,
    ObjectMeta, PartPosition, PendingUploads, PutCondition, ReadGrant, Ufs, UfsError, UfsResult, UploadCursor,
    UploadId, UploadedPart, key,
};
use async_trait::async_trait;
use bytes::Bytes;
use faults::FaultHook;
use futures::StreamExt;
use parking_lot::Mutex;
use state::{CompleteError, State};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

const PARTS_MAX: u32 = 10_000;
/// Bytes of one chunk of a read stream.
const CHUNK_LEN: usize = 256 * 1024;

/// A store in memory. Values of one URI share their objects, as long as one of them lives.
#[derive(Debug)]
pub struct MemoryUfs {
    failures: Failures,
    state: Mutex<State>,
    faults: Mutex<FaultHook>,
    counts: Mutex<BTreeMap<Operation, u64>>,
}

/// The living stores by URI.
static STORES: LazyLock<Mutex<BTreeMap<String, Weak<MemoryUfs>>>> = LazyLock::new(Mutex::default);

pub(crate) fn open(uri: &str, rest: &str, options: &OpenOptions) -> UfsResult<Arc<dyn Ufs>> {
    check_names(uri, options, &[])?;
    if rest.is_empty() || rest.contains('/') {
        return Err(invalid(uri, "a memory store is a name alone", "write it as memory://name"));
    }
    Ok(MemoryUfs::shared(rest))
}

impl MemoryUfs {
    /// A store of its own, with no objects.
    pub fn new() -> MemoryUfs {
        MemoryUfs::named("anonymous")
    }

    fn named(name: &str) -> MemoryUfs {
        MemoryUfs {
            failures: Failures::new(&format!("memory://{name}")),
            state: Mutex::default(),
            faults: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// The store `memory://name` of this process.
    pub fn shared(name: &str) -> Arc<MemoryUfs> {
        let mut stores = STORES.lock();
        stores.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = stores.get(name).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(MemoryUfs::named(name));
        stores.insert(name.to_owned(), Arc::downgrade(&store));
        store
    }

    /// From now on `hook` decides the fault of each call.
    pub fn set_faults(&self, hook: impl Fn(Operation, &[u8]) -> Fault + Send + Sync + 'static) {
        *self.faults.lock() = FaultHook(Arc::new(hook));
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        *self.faults.lock() = FaultHook::default();
    }

    /// How often an operation was called, failed calls included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.counts.lock().get(&operation).copied().unwrap_or(0)
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.counts.lock().clear();
    }

    /// An error as this store makes them, for fault hooks.
    pub fn error(&self, variant: fn(Box<crate::Failure>) -> UfsError, detail: &str) -> UfsError {
        self.failures.at("reach", b"").fail(variant, detail, "")
    }

    /// Writes an object behind everybody's back; any key goes, also `a//b` and `a/`.
    pub fn insert(&self, key: &[u8], bytes: impl Into<Bytes>) -> ObjectMeta {
        self.state.lock().insert(key, vec![bytes.into()])
    }

    /// Removes an object behind everybody's back; whether it was there.
    pub fn remove(&self, key: &[u8]) -> bool {
        self.state.lock().remove(key)
    }

    /// Has an object be from another time, in milliseconds since 1970-01-01 UTC, behind everybody's back; whether it was there.
    pub fn set_modified(&self, key: &[u8], modified_ms: u64) -> bool {
        self.state.lock().set_modified(key, modified_ms)
    }

    /// Every key there is, markers included.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.state.lock().keys()
    }

    /// The bytes of an object.
    pub fn bytes(&self, key: &[u8]) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.get(key).map(|object| object.chunks.concat())
    }

    /// Counts a call and lets its fault happen; what is left of the fault is for after the call.
    async fn enter(&self, operation: Operation, key: &[u8]) -> UfsResult<Fault> {
        *self.counts.lock().entry(operation).or_default() += 1;
        let hook = self.faults.lock().0.clone();
        match hook(operation, key) {
            Fault::Fail(error) => Err(error),
            Fault::Hold(gate) => {
                pass(&gate).await;
                Ok(Fault::None)
            }
            other => Ok(other),
        }
    }
}

impl Default for MemoryUfs {
    fn default() -> MemoryUfs {
        MemoryUfs::new()
    }
}

/// The end of a call whose answer may get lost, or be late.
async fn leave<T>(fault: Fault, answer: T) -> UfsResult<T> {
    match fault {
        Fault::FailAfter(error) => return Err(error),
        Fault::HoldAnswer(gate) => pass(&gate).await,
        _ => {}
    }
    Ok(answer)
}

/// Waits for a permit and uses it up.
async fn pass(gate: &Semaphore) {
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
}

fn check_condition(state: &State, at: At<'_>, condition: &PutCondition) -> UfsResult<()> {
    let found = state.get(at.key()).map(|object| &object.meta.tag);
    match (condition, found) {
        (PutCondition::None, _) | (PutCondition::IfAbsent, None) => Ok(()),
        (PutCondition::IfAbsent, Some(_)) => Err(at.exists()),
        (PutCondition::IfTag(tag), Some(found)) if tag == found => Ok(()),
        (PutCondition::IfTag(tag), found) => Err(at.changed(match found {
            Some(found) => format!("its version is {found}, not {tag}"),
            None => format!("it is gone; its version was {tag}"),
        })),
    }
}

#[async_trait]
impl Probe for MemoryUfs {
    async fn object(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        let state = self.state.lock();
        Ok(state.get(key).map(|object| object.meta.clone()))
    }

    async fn has_below(&self, key: &[u8]) -> UfsResult<bool> {
        Ok(self.state.lock().has_prefix(&key::prefix_of(key)))
    }
}

#[async_trait]
impl Ufs for MemoryUfs {
    fn uri(&self) -> &str {
        self.failures.uri()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_rename: false,
            real_directories: false,
            atomic_put_condition: true,
            atomic_complete_condition: true,
            any_byte_names: true,
            part_len_min: 1,
            part_len_max: 1 << 40,
            parts_max: PARTS_MAX,
            put_len_max: 1 << 40,
            delete_batch: 1000,
        }
    }

    async fn check(&self, _access: Access) -> UfsResult<()> {
        let fault = self.enter(Operation::Check, b"").await?;
        leave(fault, ()).await
    }

    async fn stat(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        self.failures.at("stat", key).check_key()?;
        let fault = self.enter(Operation::Stat, key).await?;
        leave(fault, object_tree::stat(self, key).await?).await
    }

    async fn stat_object(&self, key: &[u8], kind: ObjectKind) -> UfsResult<Option<ObjectMeta>> {
        self.failures.at("stat", key).check_file_key()?;
        let fault = self.enter(Operation::Stat, key).await?;
        let object = self.state.lock().get(&object_key(key, kind)).map(|object| object.meta.clone());
        leave(fault, object).await
    }

    async fn list(&self, directory: &[u8], from: Option<&ListCursor>, limit: usize) -> UfsResult<ListPage> {
        self.failures.at("list", directory).check_key()?;
        let fault = self.enter(Operation::List, directory).await?;
        let prefix = key::prefix_of(directory);
        let from = from.map(ListCursor::list_key).filter(|from| !from.0.is_empty());
        let after = from.map(|from| [prefix.as_slice(), &from.0].concat());
        let raw = self.state.lock().list(&prefix, after.as_deref(), limit.max(1));
        leave(fault, object_tree::page(self, directory, from, raw).await?).await
    }

    async fn read(&self, key: &[u8], range: Range<u64>, expected: &Expected) -> UfsResult<ByteStream> {
        let at = self.failures.at("read", key);
        at.check_file_key()?;
        let fault = self.enter(Operation::Read, key).await?;
        let object = self.state.lock().get(key).cloned().ok_or_else(|| at.not_found())?;
        if object.meta.expected() != *expected {
            return Err(at.changed(format!("its version is {}, not {}", object.meta.tag, expected.tag)));
        }
        at.check_range(&range, object.meta.length)?;
        let chunks = cut(&object.chunks, range);
        Ok(with_body_fault(chunks, fault))
    }

    async fn grant_read(&self, key: &[u8], _expected: &Expected, _lifetime: Duration) -> UfsResult<ReadGrant> {
        let at = self.failures.at("let others read", key);
        Err(at.fail(UfsError::Unsupported, "a store in memory is read in its own process alone", ""))
    }

    async fn put(&self, key: &[u8], body: Vec<Bytes>, condition: &PutCondition) -> UfsResult<ObjectMeta> {
        let at = self.failures.at("write", key);
        at.check_file_key()?;
        let fault = self.enter(Operation::Put, key).await?;
        let meta = {
            let mut state = self.state.lock();
            check_condition(&state, at, condition)?;
            state.insert(key, own(body))
        };
        leave(fault, meta).await
    }

    async fn begin_upload(&self, key: &[u8]) -> UfsResult<UploadId> {
        self.failures.at("begin the upload of", key).check_file_key()?;
        let fault = self.enter(Operation::BeginUpload, key).await?;
        let upload = self.state.lock().begin_upload(key);
        leave(fault, upload).await
    }

    async fn put_part(
        &self,
        key: &[u8],
        upload: &UploadId,
        position: PartPosition,
        body: Vec<Bytes>,
    ) -> UfsResult<UploadedPart> {
        let at = self.failures.at("write a part of", key);
        at.check_file_key()?;
        let fault = self.enter(Operation::PutPart, key).await?;
        if !(1..=PARTS_MAX).contains(&position.number) {
            return Err(at.invalid(format!("part number {} is not in 1..={PARTS_MAX}", position.number)));
        }
        let part = self.state.lock().put_part(key, upload, position.number, own(body));
        leave(fault, part.ok_or_else(|| at.upload_gone())?).await
    }

    async fn complete_upload(
        &self,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let at = self.failures.at("complete the upload of", key);
        at.check_file_key()?;
        at.check_parts(parts)?;
        let fault = self.enter(Operation::CompleteUpload, key).await?;
        let meta = {
            let mut state = self.state.lock();
            match state.assemble(key, upload, parts) {
                Ok(body) => {
                    check_condition(&state, at, condition)?;
                    state.finish(key, upload, body)
                }
                Err(CompleteError::Unknown) => state.result_of(key, upload).ok_or_else(|| at.upload_gone())?,
                Err(CompleteError::BadParts(why)) => return Err(at.invalid(why)),
            }
        };
        leave(fault, meta).await
    }

    async fn abort_upload(&self, key: &[u8], upload: &UploadId) -> UfsResult<()> {
        let fault = self.enter(Operation::AbortUpload, key).await?;
        self.state.lock().abort(upload);
        leave(fault, ()).await
    }

    async fn list_uploads(
        &self,
        prefix: &[u8],
        from: Option<&UploadCursor>,
        limit: usize,
    ) -> UfsResult<PendingUploads> {
        let fault = self.enter(Operation::ListUploads, prefix).await?;
        let uploads = self.state.lock().uploads(prefix);
        leave(fault, crate::types::upload_page(uploads, from, limit)).await
    }

    async fn make_directory(&self, key: &[u8]) -> UfsResult<()> {
        let at = self.failures.at("make the directory", key);
        at.check_key()?;
        let fault = self.enter(Operation::MakeDirectory, key).await?;
        let marker = key::prefix_of(key);
        {
            let mut state = self.state.lock();
            if !marker.is_empty() && state.get(&marker).is_none() {
                state.insert(&marker, Vec::new());
            }
        }
        leave(fault, ()).await
    }

    async fn delete(&self, targets: &[DeleteTarget]) -> UfsResult<Vec<UfsResult<()>>> {
        let mut results = Vec::with_capacity(targets.len());
        for target in targets {
            results.push(self.delete_one(target).await);
        }
        Ok(results)
    }

    async fn copy(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        self.copy_object(ObjectKind::File, (from, to), expected, condition).await
    }

    async fn copy_marker(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        self.copy_object(ObjectKind::Directory, (from, to), expected, condition).await
    }

    async fn rename(&self, from: &[u8], _to: &[u8]) -> UfsResult<()> {
        let at = self.failures.at("rename", from);
        Err(at.fail(UfsError::Unsupported, "a memory store cannot rename", "copy, then delete"))
    }
}

impl MemoryUfs {
    async fn delete_one(&self, target: &DeleteTarget) -> UfsResult<()> {
        let at = self.failures.at("delete", &target.key);
        at.check_key()?;
        let fault = self.enter(Operation::Delete, &target.key).await?;
        let key = object_key(&target.key, target.kind);
        {
            let mut state = self.state.lock();
            let found = state.get(&key).map(|object| &object.meta.tag);
            if let (Some(found), DeleteCondition::IfTag(tag) | DeleteCondition::IfListed(tag)) =
                (found, &target.condition)
                && found != tag
            {
                return Err(at.changed(format!("its version is {found}, not {tag}")));
            }
            state.remove(&key);
        }
        leave(fault, ()).await
    }

    async fn copy_object(
        &self,
        kind: ObjectKind,
        (from, to): (&[u8], &[u8]),
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let at = self.failures.at("copy", from);
        at.check_file_key()?;
        self.failures.at("copy to", to).check_file_key()?;
        let fault = self.enter(Operation::Copy, from).await?;
        let (from, to) = (object_key(from, kind), object_key(to, kind));
        let source = self.state.lock().get(&from).cloned().ok_or_else(|| at.not_found())?;
        if source.meta.expected() != *expected {
            return Err(at.changed(format!("its version is {}, not {}", source.meta.tag, expected.tag)));
        }
        let meta = {
            let mut state = self.state.lock();
            check_condition(&state, self.failures.at("copy to", &to), condition)?;
            state.insert(&to, source.chunks)
        };
        leave(fault, meta).await
    }
}

/// The key of one of the two objects that a name can have.
fn object_key(key: &[u8], kind: ObjectKind) -> Vec<u8> {
    match kind {
        ObjectKind::File => key.to_vec(),
        ObjectKind::Directory => key::prefix_of(key),
    }
}

/// The chunks of a range, none of them copied.
fn cut(chunks: &[Bytes], range: Range<u64>) -> Vec<Bytes> {
    let mut cut = Vec::new();
    let mut start = 0u64;
    for chunk in chunks {
        let end = start + chunk.len() as u64;
        let from = range.start.max(start);
        let to = range.end.min(end);
        let mut at = from;
        while at < to {
            let piece_end = to.min(at + CHUNK_LEN as u64);
            // Both offsets lie within the chunk, whose length is a usize.
            cut.push(chunk.slice((at - start) as usize..(piece_end - start) as usize));
            at = piece_end;
        }
        start = end;
    }
    cut
}

/// A copy: what a store keeps is not its caller's memory any more.
fn own(body: Vec<Bytes>) -> Vec<Bytes> {
    body.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect()
}

fn with_body_fault(chunks: Vec<Bytes>, fault: Fault) -> ByteStream {
    let whole = futures::stream::iter(chunks.into_iter().map(Ok));
    match fault {
        Fault::BreakBody(after, error) => {
            let mut left = after;
            whole
                .map(move |chunk: UfsResult<Bytes>| {
                    let mut chunk = chunk?;
                    let take = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= take as u64;
                    if take == 0 {
                        return Err(error.clone());
                    }
                    chunk.truncate(take);
                    Ok(chunk)
                })
                .boxed()
        }
        Fault::FailAfter(error) => whole.chain(futures::stream::once(async move { Err(error) })).boxed(),
        _ => whole.boxed(),
    }
}
