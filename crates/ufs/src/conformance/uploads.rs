//! Objects sent in parts.

use super::{Suite, assert_fails, pattern};
use crate::{ObjectMeta, PartPosition, PutCondition, UfsResult, UploadId, UploadedPart};
use bytes::Bytes;
use forebay_base::VersionTag;

pub(super) async fn run(suite: &Suite) {
    parts_in_any_order(suite).await;
    repeated_completion(suite).await;
    conditions(suite).await;
    aborted(suite).await;
    pending(suite).await;
    bad_parts(suite).await;
}

/// A part as long as the store wants.
fn part_len(suite: &Suite) -> usize {
    usize::try_from(suite.store.capabilities().part_len_min.max(1000)).expect("small")
}

async fn begin(suite: &Suite, key: &str) -> UploadId {
    suite.store.begin_upload(key.as_bytes()).await.expect("begin")
}

async fn put_part(
    suite: &Suite,
    key: &str,
    upload: &UploadId,
    number: u32,
    offset: usize,
    body: &[u8],
) -> UfsResult<UploadedPart> {
    let position = PartPosition { number, offset: offset as u64 };
    let chunks = body.chunks(300_000).map(Bytes::copy_from_slice).collect();
    suite.store.put_part(key.as_bytes(), upload, position, chunks).await
}

async fn complete(
    suite: &Suite,
    key: &str,
    upload: &UploadId,
    parts: &[UploadedPart],
    condition: &PutCondition,
) -> UfsResult<ObjectMeta> {
    suite.store.complete_upload(key.as_bytes(), upload, parts, condition).await
}

/// An upload with one short part, not completed.
async fn short_upload(suite: &Suite, key: &str, body: &str) -> (UploadId, Vec<UploadedPart>) {
    let upload = begin(suite, key).await;
    let part = put_part(suite, key, &upload, 1, 0, body.as_bytes()).await.expect("part");
    (upload, vec![part])
}

async fn parts_in_any_order(suite: &Suite) {
    let (key, len) = ("cf-upload/file", part_len(suite));
    let body = pattern(11, 2 * len + 777);
    let upload = begin(suite, key).await;
    let third = put_part(suite, key, &upload, 3, 2 * len, &body[2 * len..]).await.expect("third");
    let wrong = pattern(99, len);
    put_part(suite, key, &upload, 1, 0, &wrong).await.expect("first, wrong");
    let first = put_part(suite, key, &upload, 1, 0, &body[..len]).await.expect("first");
    let second = put_part(suite, key, &upload, 2, len, &body[len..2 * len]).await.expect("second");
    assert_eq!((second.number, second.length), (2, len as u64));
    assert_eq!(suite.stat(key).await, None, "nothing is visible before the end");
    let parts = [first, second, third];
    let meta = complete(suite, key, &upload, &parts, &PutCondition::None).await.expect("complete");
    assert_eq!(meta.length, body.len() as u64);
    assert_eq!(suite.stat(key).await.expect("the file").tag, meta.tag);
    assert!(suite.content(key).await == body, "other bytes than sent");
    suite.clear("cf-upload").await;
}

async fn repeated_completion(suite: &Suite) {
    let key = "cf-again/file";
    let (upload, parts) = short_upload(suite, key, "content").await;
    let none = PutCondition::None;
    let first = complete(suite, key, &upload, &parts, &none).await.expect("first");
    for condition in [PutCondition::None, PutCondition::IfAbsent] {
        let again = complete(suite, key, &upload, &parts, &condition).await.expect("again");
        assert_eq!(again.tag, first.tag);
    }
    suite.put(key, "somebody else's").await;
    late_completion(suite, key, &upload, &parts, &first).await;
    assert_eq!(suite.content(key).await, b"somebody else's");
    suite.delete_file(key).await;
    late_completion(suite, key, &upload, &parts, &first).await;
    assert_eq!(suite.stat(key).await, None);
    suite.clear("cf-again").await;
}

/// A store that remembers the upload may say what it made then; it must not make it again.
async fn late_completion(suite: &Suite, key: &str, upload: &UploadId, parts: &[UploadedPart], first: &ObjectMeta) {
    if !suite.holds.ended_uploads {
        return;
    }
    match complete(suite, key, upload, parts, &PutCondition::None).await {
        Ok(meta) => assert_eq!(meta.tag, first.tag),
        late => assert_fails!(late, UploadGone, "completing an upload that is over"),
    }
}

async fn conditions(suite: &Suite) {
    let key = "cf-upcond/file";
    let old = suite.put(key, "old").await;
    let (upload, parts) = short_upload(suite, key, "new").await;
    let completed = complete(suite, key, &upload, &parts, &PutCondition::IfAbsent).await;
    assert_fails!(completed, AlreadyExists, "completing over a file");
    let wrong = PutCondition::IfTag(VersionTag("no-such-tag".into()));
    if suite.holds.completes_if_tag {
        let completed = complete(suite, key, &upload, &parts, &wrong).await;
        assert_fails!(completed, VersionChanged, "completing over another version");
    }
    assert_eq!(suite.content(key).await, b"old");
    let right = PutCondition::IfTag(old.tag);
    complete(suite, key, &upload, &parts, &right).await.expect("complete over the version");
    assert_eq!(suite.content(key).await, b"new");
    suite.clear("cf-upcond").await;
}

async fn aborted(suite: &Suite) {
    let key = "cf-abort/file";
    let (upload, parts) = short_upload(suite, key, "content").await;
    suite.store.abort_upload(key.as_bytes(), &upload).await.expect("abort");
    suite.store.abort_upload(key.as_bytes(), &upload).await.expect("abort again");
    if suite.holds.ended_uploads {
        let part = put_part(suite, key, &upload, 2, 7, b"late").await;
        assert_fails!(part, UploadGone, "a part after the abort");
        let completed = complete(suite, key, &upload, &parts, &PutCondition::None).await;
        assert_fails!(completed, UploadGone, "completing after the abort");
    }
    assert_eq!(suite.stat(key).await, None);
    suite.clear("cf-abort").await;
}

async fn pending(suite: &Suite) {
    let mut begun = Vec::new();
    for name in ["a", "b", "b", "c"] {
        let key = format!("cf-pending/{name}");
        begun.push((key.clone(), begin(suite, &key).await));
    }
    begun.sort();
    let of_b: Vec<_> = begun.iter().filter(|(key, _)| key == "cf-pending/b").cloned().collect();
    assert_eq!(listed(suite, "cf-pending/b", 1000).await, of_b);
    if suite.holds.paged_uploads {
        assert_eq!(listed(suite, "cf-pending/", 2).await, begun);
    }
    for (key, upload) in begun {
        suite.store.abort_upload(key.as_bytes(), &upload).await.expect("abort");
    }
    assert_eq!(listed(suite, "cf-pending/b", 1000).await, []);
    suite.clear("cf-pending").await;
}

/// Every unfinished upload for keys of a prefix, read in pages of `limit`.
async fn listed(suite: &Suite, prefix: &str, limit: usize) -> Vec<(String, UploadId)> {
    let mut found = Vec::new();
    let mut from = None;
    loop {
        let page = suite.store.list_uploads(prefix.as_bytes(), from.as_ref(), limit).await.expect("list");
        assert!(page.uploads.len() <= limit);
        for upload in page.uploads {
            assert!(upload.begun_ms > 0);
            found.push((String::from_utf8_lossy(&upload.key).into_owned(), upload.upload));
        }
        from = page.next;
        if from.is_none() {
            found.sort();
            return found;
        }
    }
}

async fn bad_parts(suite: &Suite) {
    let key = "cf-bad/file";
    let (upload, parts) = short_upload(suite, key, "content").await;
    let completed = complete(suite, key, &upload, &[], &PutCondition::None).await;
    assert_fails!(completed, Invalid, "no parts");
    let twice = [parts[0].clone(), parts[0].clone()];
    let completed = complete(suite, key, &upload, &twice, &PutCondition::None).await;
    assert_fails!(completed, Invalid, "a part twice");
    let mut unknown = parts[0].clone();
    unknown.number = 2;
    let two = [parts[0].clone(), unknown];
    let completed = complete(suite, key, &upload, &two, &PutCondition::None).await;
    assert_fails!(completed, Invalid, "a part that was not sent");
    suite.store.abort_upload(key.as_bytes(), &upload).await.expect("abort");
    suite.clear("cf-bad").await;
}
