//! A state of a few files, and targets for it.

use forebay_backup::{BackupError, BackupFile, BackupId, Manifest, Result, Sending, Sent, Still, Target};
use forebay_ufs::OpenOptions;
use forebay_ufs::memory::MemoryUfs;
use futures::FutureExt;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

pub const CLUSTER: &str = "9f86d081884c7d659a2feaa0c55ad015";

/// A target in memory; `name` is that of one test.
pub fn in_memory(name: &str) -> (Arc<MemoryUfs>, Target) {
    let store = MemoryUfs::shared(name);
    let target = Target::open(&format!("memory://{name}"), &OpenOptions::default()).unwrap();
    (store, target)
}

/// A target in a directory.
pub fn in_directory(directory: &Path) -> Target {
    Target::open(&format!("file://{}", directory.display()), &OpenOptions::default()).unwrap()
}

/// A state of one file for each content.
pub fn state(contents: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (number, content) in contents.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{number:06}.sst")), content).unwrap();
    }
    directory
}

pub fn id(text: &str) -> BackupId {
    BackupId::parse(text).unwrap()
}

/// What is known before the files are: of entry `index`, named as made on that day of November.
pub fn manifest(day: u32, index: u64) -> Manifest {
    Manifest {
        id: id(&format!("202611{day:02}T052015.000Z-0badcafe")),
        cluster: CLUSTER.to_owned(),
        created_ms: 1_795_000_000_000 + u64::from(day) * 86_400_000,
        version: "0.1.0".to_owned(),
        term: 3,
        index,
        inodes: 1,
        secret_key: "00112233aabbccdd".to_owned(),
        files: Vec::new(),
    }
}

/// As `manifest`, with one file of this content, which nobody has stored.
pub fn with_file(day: u32, index: u64, content: &str) -> Manifest {
    let file = BackupFile { name: "000000.sst".to_owned(), length: content.len() as u64, sha256: sum(content) };
    Manifest { files: vec![file], ..manifest(day, index) }
}

pub fn sum(content: &str) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn manifest_key(manifest: &Manifest) -> String {
    format!("{CLUSTER}/backups/{}", manifest.id)
}

pub fn file_key(content: &str) -> String {
    format!("{CLUSTER}/files/{}", sum(content))
}

/// It may go on.
pub fn yes<'a>() -> BoxFuture<'a, Result<()>> {
    async { Ok(()) }.boxed()
}

/// It may not.
pub fn no<'a>() -> BoxFuture<'a, Result<()>> {
    async { Err(BackupError::GivenUp { why: "another master leads".to_owned() }) }.boxed()
}

pub async fn send<'a>(target: &'a Target, state: &'a Path, manifest: Manifest, still: Still<'a>) -> Result<Sent> {
    let sending = Sending { target, directory: state, full: false, bytes_per_second: 1 << 30, still };
    sending.run(manifest, &|_| ()).await
}

/// The identifiers that are listed, oldest first.
pub async fn listed(target: &Target) -> Vec<BackupId> {
    forebay_backup::list(target).await.unwrap().into_iter().map(|listed| listed.id).collect()
}
