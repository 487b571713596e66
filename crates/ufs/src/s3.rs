//! S3, and every store that speaks its protocol: `s3://bucket/prefix`.
//!
//! A client of our own over reqwest (HTTP), rustls (TLS) and reqsign (signatures, credentials); why not OpenDAL is told in
//! `docs/adr/2026-11-22-own-s3-client.md`. Keys are sent exactly as they are. Reads are conditional and every answer is checked against
//! the version wanted; writes carry a CRC32C; multipart uploads go by their ids, so that any process can add parts and complete them.
//!
//! Directories are implied by keys; `make_directory` writes an empty object `key/`. See `object_tree` for one name with two objects.

mod answer;
mod body;
mod check;
mod config;
mod credentials;
mod deletes;
mod encode;
pub(crate) mod granted;
mod http;
mod listing;
mod meta;
mod objects;
mod presign;
mod read;
mod time;
mod tls;
mod uploads;
mod wire;

use self::http::Http;
use crate::failure::At;
use crate::object_tree::{self, Probe};
use crate::open::OpenOptions;
use crate::{
    Access, ByteStream, Capabilities, DeleteTarget, Expected, ListCursor, ListPage, ObjectKind, ObjectMeta,
    PartPosition, PendingUploads, PutCondition, ReadGrant, Ufs, UfsError, UfsResult, UploadCursor, UploadId,
    UploadedPart,
};
use async_trait::async_trait;
use bytes::Bytes;
use config::{KEY_LEN_MAX, S3Config};
use deletes::Doomed;
use objects::Source;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const PART_LEN_MIN: u64 = 5 << 20;
const PART_LEN_MAX: u64 = 5 << 30;
const PARTS_MAX: u32 = 10_000;
/// Most keys of one DeleteObjects.
const DELETE_BATCH: usize = 1000;

/// A bucket's prefix as an under store.
#[derive(Clone, Debug)]
pub struct S3Ufs {
    http: Arc<Http>,
}

pub(crate) fn open(uri: &str, rest: &str, options: &OpenOptions) -> UfsResult<Arc<dyn Ufs>> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let config = S3Config::read(uri, rest, options, &environment)?;
    let http = Http::new(config, &options.credentials)?;
    Ok(Arc::new(S3Ufs { http: Arc::new(http) }))
}

impl S3Ufs {
    fn at<'a>(&'a self, operation: &'static str, key: &'a [u8]) -> At<'a> {
        self.http.failures().at(operation, key)
    }

    /// The bucket's key of a key, with something behind it.
    fn object(&self, at: At<'_>, tail: &str) -> UfsResult<String> {
        at.check_key()?;
        let key = std::str::from_utf8(at.key()).map_err(|_| at.invalid("keys in S3 are UTF-8, this one is not"))?;
        let object = format!("{}{key}{tail}", self.http.config.prefix);
        if object.len() > KEY_LEN_MAX {
            return Err(at.invalid(format!(
                "the key has {} bytes with the mount's prefix: S3 takes {KEY_LEN_MAX}",
                object.len()
            )));
        }
        Ok(object)
    }

    fn file(&self, at: At<'_>) -> UfsResult<String> {
        at.check_file_key()?;
        self.object(at, "")
    }

    /// The bucket's key of one of the two objects that a name can have.
    fn of_kind(&self, at: At<'_>, kind: ObjectKind) -> UfsResult<String> {
        at.check_file_key()?;
        self.object(at, if kind == ObjectKind::Directory { "/" } else { "" })
    }

    /// What all keys below a directory begin with.
    fn below(&self, at: At<'_>) -> UfsResult<String> {
        self.object(at, if at.key().is_empty() { "" } else { "/" })
    }
}

#[async_trait]
impl Probe for S3Ufs {
    async fn object(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        let at = self.at("stat", key);
        objects::head(&self.http, at, &self.file(at)?).await
    }

    async fn has_below(&self, key: &[u8]) -> UfsResult<bool> {
        let at = self.at("stat", key);
        listing::has_any(&self.http, at, &self.below(at)?).await
    }
}

#[async_trait]
impl Ufs for S3Ufs {
    fn uri(&self) -> &str {
        &self.http.config.uri
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_rename: false,
            real_directories: false,
            atomic_put_condition: self.http.config.conditional_writes,
            atomic_complete_condition: self.http.config.conditional_writes,
            any_byte_names: false,
            part_len_min: PART_LEN_MIN,
            part_len_max: PART_LEN_MAX,
            parts_max: PARTS_MAX,
            put_len_max: PART_LEN_MAX,
            delete_batch: DELETE_BATCH,
        }
    }

    async fn check(&self, access: Access) -> UfsResult<()> {
        check::run(&self.http, access).await
    }

    async fn stat(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        self.object(self.at("stat", key), "")?;
        object_tree::stat(self, key).await
    }

    async fn stat_object(&self, key: &[u8], kind: ObjectKind) -> UfsResult<Option<ObjectMeta>> {
        let at = self.at("stat", key);
        objects::head(&self.http, at, &self.of_kind(at, kind)?).await
    }

    async fn list(&self, directory: &[u8], from: Option<&ListCursor>, limit: usize) -> UfsResult<ListPage> {
        let at = self.at("list", directory);
        let prefix = self.below(at)?;
        let raw = listing::page(&self.http, at, &prefix, from, limit).await?;
        object_tree::page(self, directory, from.map(ListCursor::list_key), raw).await
    }

    async fn read(&self, key: &[u8], range: Range<u64>, expected: &Expected) -> UfsResult<ByteStream> {
        let at = self.at("read", key);
        let object = self.file(at)?;
        at.check_range(&range, expected.length)?;
        read::open(Arc::clone(&self.http), key, object, range, expected).await
    }

    async fn grant_read(&self, key: &[u8], expected: &Expected, lifetime: Duration) -> UfsResult<ReadGrant> {
        let at = self.at("let others read", key);
        presign::read(&self.http, at, &self.file(at)?, expected, lifetime).await
    }

    async fn put(&self, key: &[u8], body: Vec<Bytes>, condition: &PutCondition) -> UfsResult<ObjectMeta> {
        let at = self.at("write", key);
        let object = self.file(at)?;
        objects::put(&self.http, at, &object, body, condition).await
    }

    async fn begin_upload(&self, key: &[u8]) -> UfsResult<UploadId> {
        let at = self.at("begin the upload of", key);
        uploads::begin(&self.http, at, &self.file(at)?).await
    }

    async fn put_part(
        &self,
        key: &[u8],
        upload: &UploadId,
        position: PartPosition,
        body: Vec<Bytes>,
    ) -> UfsResult<UploadedPart> {
        let at = self.at("write a part of", key);
        let object = self.file(at)?;
        let number = position.number;
        if !(1..=PARTS_MAX).contains(&number) {
            return Err(at.invalid(format!("part number {number} is not in 1..={PARTS_MAX}")));
        }
        uploads::put_part(&self.http, at, &object, upload, number, body).await
    }

    async fn complete_upload(
        &self,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let at = self.at("complete the upload of", key);
        let object = self.file(at)?;
        at.check_parts(parts)?;
        uploads::complete(&self.http, at, &object, upload, parts, condition).await
    }

    async fn abort_upload(&self, key: &[u8], upload: &UploadId) -> UfsResult<()> {
        let at = self.at("abort the upload of", key);
        uploads::abort(&self.http, at, &self.file(at)?, upload).await
    }

    async fn list_uploads(
        &self,
        prefix: &[u8],
        from: Option<&UploadCursor>,
        limit: usize,
    ) -> UfsResult<PendingUploads> {
        let at = self.at("list the uploads of", prefix);
        let root = &self.http.config.prefix;
        let whole = format!("{root}{}", String::from_utf8_lossy(prefix));
        uploads::list(&self.http, at, root, &whole, from, limit).await
    }

    async fn make_directory(&self, key: &[u8]) -> UfsResult<()> {
        let at = self.at("make the directory", key);
        if key.is_empty() {
            return Ok(());
        }
        let marker = self.below(at)?;
        match objects::put(&self.http, at, &marker, Vec::new(), &PutCondition::IfAbsent).await {
            Ok(_) => return Ok(()),
            Err(UfsError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
        // It marks the directory as it is, also when somebody gave it bytes. But a gateway over a file system may mean the directory itself, which
        // would go with its last entry.
        if objects::head(&self.http, at, &marker).await?.is_none() {
            objects::put(&self.http, at, &marker, Vec::new(), &PutCondition::None).await?;
        }
        Ok(())
    }

    async fn delete(&self, targets: &[DeleteTarget]) -> UfsResult<Vec<UfsResult<()>>> {
        let mut results = Vec::with_capacity(targets.len());
        for batch in targets.chunks(DELETE_BATCH) {
            results.extend(self.delete_batch(batch).await);
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
        if expected.length > 0 {
            return self.copy_object(ObjectKind::Directory, (from, to), expected, condition).await;
        }
        // One without bytes is made anew: versitygw does not copy markers at all.
        let (source_at, at) = (self.at("copy", from), self.at("copy to", to));
        let (from, to) = (self.of_kind(source_at, ObjectKind::Directory)?, self.of_kind(at, ObjectKind::Directory)?);
        match objects::head(&self.http, source_at, &from).await? {
            None => Err(source_at.not_found()),
            Some(found) if found.tag != expected.tag => Err(source_at.changed("it is another version by now")),
            Some(_) => objects::put(&self.http, at, &to, Vec::new(), condition).await,
        }
    }

    async fn rename(&self, from: &[u8], _to: &[u8]) -> UfsResult<()> {
        let at = self.at("rename", from);
        Err(at.fail(UfsError::Unsupported, "S3 cannot rename", "copy, then delete"))
    }
}

impl S3Ufs {
    async fn copy_object(
        &self,
        kind: ObjectKind,
        (from, to): (&[u8], &[u8]),
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let (source_at, at) = (self.at("copy", from), self.at("copy to", to));
        let (from, to) = (self.of_kind(source_at, kind)?, self.of_kind(at, kind)?);
        let source = Source { at: source_at, key: &from, expected };
        match expected.length > self.http.config.copy_part_len {
            true => uploads::copy(&self.http, &source, at, &to, condition).await,
            false => objects::copy(&self.http, &source, at, &to, condition).await,
        }
    }

    /// Deletes what has a good key; the others keep their errors.
    async fn delete_batch(&self, targets: &[DeleteTarget]) -> Vec<UfsResult<()>> {
        let mut results: Vec<UfsResult<()>> = Vec::with_capacity(targets.len());
        let mut good = Vec::with_capacity(targets.len());
        for target in targets {
            let at = self.at("delete", &target.key);
            results.push(match self.of_kind(at, target.kind) {
                Ok(key) => {
                    good.push((results.len(), Doomed { at, key, condition: &target.condition }));
                    Ok(())
                }
                Err(error) => Err(error),
            });
        }
        let (places, objects): (Vec<usize>, Vec<_>) = good.into_iter().unzip();
        if !objects.is_empty() {
            let deleted = deletes::run(&self.http, &objects).await;
            for (place, result) in places.into_iter().zip(deleted) {
                results[place] = result;
            }
        }
        results
    }
}
