//! Counts what is asked of each store, and tells when it does not answer: every store that [`crate::open()`] makes is wrapped in this.

use crate::trouble::Trouble;
use crate::{
    Access, ByteStream, Capabilities, DeleteTarget, Expected, ListCursor, ListPage, ObjectKind, ObjectMeta,
    PartPosition, PendingUploads, PutCondition, ReadGrant, Ufs, UfsResult, UploadCursor, UploadId, UploadedPart,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUESTS: &str = "forebay_ufs_requests_total";
const SECONDS: &str = "forebay_ufs_request_seconds";
const BYTES_ASKED: &str = "forebay_ufs_bytes_asked_total";
const BYTES_RECEIVED: &str = "forebay_ufs_bytes_received_total";
const BYTES_SENT: &str = "forebay_ufs_bytes_sent_total";
pub(crate) const HTTP_REQUESTS: &str = "forebay_ufs_http_requests_total";
pub(crate) const RETRIES: &str = "forebay_ufs_retries_total";
pub(crate) const RESUMED_READS: &str = "forebay_ufs_resumed_reads_total";

/// The metrics of this crate: name and meaning. All have the label `store`, a mount's URI.
pub const METRICS: &[(&str, &str)] = &[
    (REQUESTS, "calls of a store by `operation` and `result`: `ok` or the kind of the error"),
    (SECONDS, "how long a call took until its answer, by `operation`; a read's body comes after"),
    (BYTES_ASKED, "bytes of the ranges that were asked for in reads"),
    (BYTES_RECEIVED, "bytes of reads that arrived"),
    (BYTES_SENT, "bytes of writes that were handed over, without those sent again"),
    (HTTP_REQUESTS, "requests over HTTP by `request` (S3's name) and `status`, or `none` without an answer"),
    (RETRIES, "requests that were sent again, by `request`"),
    (RESUMED_READS, "reads that went on with a new request after their body broke off"),
];

/// Describes the metrics of this crate to the recorder.
pub fn describe_metrics() {
    for (name, meaning) in METRICS {
        match *name {
            SECONDS => metrics::describe_histogram!(*name, metrics::Unit::Seconds, *meaning),
            _ => metrics::describe_counter!(*name, *meaning),
        }
    }
}

/// A store whose calls are counted.
#[derive(Debug)]
pub(crate) struct Metered {
    store: Arc<dyn Ufs>,
    label: Arc<str>,
    trouble: Trouble,
}

impl Metered {
    pub(crate) fn new(store: Arc<dyn Ufs>) -> Metered {
        let label: Arc<str> = store.uri().into();
        for name in [BYTES_ASKED, BYTES_RECEIVED, BYTES_SENT] {
            metrics::counter!(name, "store" => label.to_string()).increment(0);
        }
        Metered { store, label, trouble: Trouble::default() }
    }

    async fn count<T>(&self, operation: &'static str, call: impl Future<Output = UfsResult<T>>) -> UfsResult<T> {
        let begun = Instant::now();
        let result = call.await;
        self.trouble.note(&self.label, result.as_ref().err());
        let outcome = result.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        let store = self.label.to_string();
        metrics::counter!(REQUESTS, "store" => store.clone(), "operation" => operation, "result" => outcome)
            .increment(1);
        metrics::histogram!(SECONDS, "store" => store, "operation" => operation).record(begun.elapsed());
        result
    }

    fn sent(&self, body: &[Bytes]) {
        let bytes = body.iter().map(|chunk| chunk.len() as u64).sum();
        metrics::counter!(BYTES_SENT, "store" => self.label.to_string()).increment(bytes);
    }
}

#[async_trait]
impl Ufs for Metered {
    fn uri(&self) -> &str {
        self.store.uri()
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn check(&self, access: Access) -> UfsResult<()> {
        self.count("check", self.store.check(access)).await
    }

    async fn stat(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        self.count("stat", self.store.stat(key)).await
    }

    async fn stat_object(&self, key: &[u8], kind: ObjectKind) -> UfsResult<Option<ObjectMeta>> {
        self.count("stat", self.store.stat_object(key, kind)).await
    }

    async fn list(&self, directory: &[u8], from: Option<&ListCursor>, limit: usize) -> UfsResult<ListPage> {
        self.count("list", self.store.list(directory, from, limit)).await
    }

    async fn read(&self, key: &[u8], range: Range<u64>, expected: &Expected) -> UfsResult<ByteStream> {
        let asked = range.end.saturating_sub(range.start);
        metrics::counter!(BYTES_ASKED, "store" => self.label.to_string()).increment(asked);
        let stream = self.count("read", self.store.read(key, range, expected)).await?;
        let received = metrics::counter!(BYTES_RECEIVED, "store" => self.label.to_string());
        Ok(stream
            .inspect(move |chunk| {
                if let Ok(chunk) = chunk {
                    received.increment(chunk.len() as u64);
                }
            })
            .boxed())
    }

    async fn grant_read(&self, key: &[u8], expected: &Expected, lifetime: Duration) -> UfsResult<ReadGrant> {
        // Nothing is asked of the store, so nothing is known of it afterwards.
        self.store.grant_read(key, expected, lifetime).await
    }

    async fn put(&self, key: &[u8], body: Vec<Bytes>, condition: &PutCondition) -> UfsResult<ObjectMeta> {
        self.sent(&body);
        self.count("put", self.store.put(key, body, condition)).await
    }

    async fn begin_upload(&self, key: &[u8]) -> UfsResult<UploadId> {
        self.count("begin_upload", self.store.begin_upload(key)).await
    }

    async fn put_part(
        &self,
        key: &[u8],
        upload: &UploadId,
        position: PartPosition,
        body: Vec<Bytes>,
    ) -> UfsResult<UploadedPart> {
        self.sent(&body);
        self.count("put_part", self.store.put_part(key, upload, position, body)).await
    }

    async fn complete_upload(
        &self,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        self.count("complete_upload", self.store.complete_upload(key, upload, parts, condition)).await
    }

    async fn abort_upload(&self, key: &[u8], upload: &UploadId) -> UfsResult<()> {
        self.count("abort_upload", self.store.abort_upload(key, upload)).await
    }

    async fn list_uploads(
        &self,
        prefix: &[u8],
        from: Option<&UploadCursor>,
        limit: usize,
    ) -> UfsResult<PendingUploads> {
        self.count("list_uploads", self.store.list_uploads(prefix, from, limit)).await
    }

    async fn make_directory(&self, key: &[u8]) -> UfsResult<()> {
        self.count("make_directory", self.store.make_directory(key)).await
    }

    async fn delete(&self, targets: &[DeleteTarget]) -> UfsResult<Vec<UfsResult<()>>> {
        self.count("delete", self.store.delete(targets)).await
    }

    async fn copy(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        self.count("copy", self.store.copy(from, to, expected, condition)).await
    }

    async fn copy_marker(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        self.count("copy", self.store.copy_marker(from, to, expected, condition)).await
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<()> {
        self.count("rename", self.store.rename(from, to)).await
    }
}
