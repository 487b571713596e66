//! Sends a copy of the state to a target, what is not there yet of it, and the manifest last.

use crate::error::ended;
use crate::manifest::hex;
use crate::target::{file_key, files_key, manifest_key, name_of};
use crate::{BackupError, BackupFile, Manifest, Result, Still, Target};
use bytes::Bytes;
use forebay_ufs::{DeleteTarget, PartPosition, PutCondition, UploadId, UploadedPart};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of one part: all that is in memory of a file.
const PART_BYTES: u64 = 8 << 20;
/// Bytes read at once for a checksum.
const READ_BYTES: usize = 1 << 20;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done with, sent or there before.
    pub done: u64,
    /// Bytes of the backup.
    pub total: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// Who is told how far it is.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// A copy of the state on its way to a target.
pub struct Sending<'a> {
    /// Where it goes.
    pub target: &'a Target,
    /// The copy: files side by side, which nobody changes.
    pub directory: &'a Path,
    /// Sends also what the target has already.
    pub full: bool,
    /// It is sent no faster.
    pub bytes_per_second: u64,
    /// Asked before anything is changed.
    pub still: Still<'a>,
}

/// How often files that are gone after the manifest was put are sent again.
const MENDS_MAX: usize = 3;

/// A backup that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it consists of.
    pub manifest: Manifest,
    /// Files that the target did not have.
    pub sent_files: usize,
    /// Their bytes.
    pub sent_bytes: u64,
}

impl Sending<'_> {
    /// Sends the files, then `manifest`, to which the files are added. The backup is there when this returns, and not before. What an interrupted one has left
    /// is used, or taken away. Only one process at a time may make backups of the cluster, as `still` says; what one that learns late that it may no more
    /// can do to the other's stands at the head of the crate.
    ///
    /// # Cancellation
    /// Dropped before it is ready, it leaves no manifest, or one whose files have not been looked for once more.
    pub async fn run(&self, mut manifest: Manifest, progress: OnProgress<'_>) -> Result<Sent> {
        let cluster = manifest.cluster.clone();
        (self.still)().await?;
        self.target.abort_uploads(&cluster).await?;
        let directory = self.directory.to_owned();
        let named = tokio::task::spawn_blocking(move || describe(&directory)).await.map_err(ended)??;
        manifest.files = named;
        let mut sent = Sent { manifest, sent_files: 0, sent_bytes: 0 };
        let known = match self.full {
            true => HashMap::new(),
            false => self.known(&cluster).await?,
        };
        self.send_missing(&mut sent, &known, progress).await?;
        // Who led before may have swept until just now.
        let known = self.known(&cluster).await?;
        self.send_missing(&mut sent, &known, progress).await?;
        (self.still)().await?;
        let key = manifest_key(&cluster, &sent.manifest.id);
        let body = vec![Bytes::from(sent.manifest.encode())];
        self.target.store.put(key.as_bytes(), body, &PutCondition::IfAbsent).await?;
        if let Err(error) = self.mend(&mut sent, progress).await {
            self.take_back(&key).await;
            return Err(error);
        }
        Ok(sent)
    }

    /// Sends again what somebody, who did not see the manifest yet, has swept. The copy is here still; later nobody could.
    async fn mend(&self, sent: &mut Sent, progress: OnProgress<'_>) -> Result<()> {
        for _ in 0..MENDS_MAX {
            let before = sent.sent_files;
            let known = self.known(&sent.manifest.cluster).await?;
            self.send_missing(sent, &known, progress).await?;
            if sent.sent_files == before {
                return Ok(());
            }
            tracing::warn!(backup = %sent.manifest.id, files = sent.sent_files - before, "files of a backup were gone and are sent again");
        }
        Err(BackupError::GivenUp {
            why: format!(
                "its files were taken away {MENDS_MAX} times: does another cluster of the same identity make backups there?"
            ),
        })
    }

    /// Takes a manifest away that may lack files.
    async fn take_back(&self, key: &str) {
        let gone = self.target.store.delete(&[DeleteTarget::file(key.to_owned())]).await;
        if let Err(error) = gone.and_then(|gone| gone.into_iter().collect::<std::result::Result<(), _>>()) {
            tracing::error!(backup = key, %error, "a backup may lack files and cannot be taken away; `forebay backup verify` tells");
        }
    }

    /// The files that the target has of a cluster, and their lengths.
    async fn known(&self, cluster: &str) -> Result<HashMap<String, u64>> {
        let entries = self.target.entries(&files_key(cluster)).await?;
        Ok(entries.iter().filter_map(|entry| Some((name_of(entry)?.to_owned(), entry.meta.length))).collect())
    }

    async fn send_missing(
        &self,
        sent: &mut Sent,
        known: &HashMap<String, u64>,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let (total, mut done) = (sent.manifest.bytes(), 0);
        let mut pace = Pace::new(self.bytes_per_second);
        for file in &sent.manifest.files {
            if known.get(&file.sha256) != Some(&file.length) {
                (self.still)().await?;
                let before = sent.sent_bytes;
                let more = |bytes| progress(Progress { done: done + bytes, total, sent: before + bytes });
                self.send(&sent.manifest.cluster, file, &mut pace, &more).await?;
                sent.sent_files += 1;
                sent.sent_bytes += file.length;
            }
            done += file.length;
            progress(Progress { done, total, sent: sent.sent_bytes });
        }
        Ok(())
    }

    /// Sends one file, part by part when it is long.
    async fn send(
        &self,
        cluster: &str,
        file: &BackupFile,
        pace: &mut Pace,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let (key, path) = (file_key(cluster, &file.sha256), self.directory.join(&file.name));
        let changed = || BackupError::damaged(format!("{path:?} has changed while it was backed up"));
        if file.length <= PART_BYTES {
            pace.wait(file.length).await;
            let body = read_part(&path, 0, file.length).await?;
            if hex(&Sha256::digest(&body)) != file.sha256 {
                return Err(changed());
            }
            self.target.store.put(key.as_bytes(), vec![body], &PutCondition::None).await?;
            return Ok(());
        }
        let upload = self.target.store.begin_upload(key.as_bytes()).await?;
        let outcome = async {
            let (parts, sum) = self.send_parts(&key, &upload, &path, file.length, pace, progress).await?;
            if sum != file.sha256 {
                return Err(changed());
            }
            self.target.store.complete_upload(key.as_bytes(), &upload, &parts, &PutCondition::None).await?;
            Ok(())
        }
        .await;
        if outcome.is_err() {
            // Else the next backup does.
            let _ = self.target.store.abort_upload(key.as_bytes(), &upload).await;
        }
        outcome
    }

    async fn send_parts(
        &self,
        key: &str,
        upload: &UploadId,
        path: &Path,
        length: u64,
        pace: &mut Pace,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Vec<UploadedPart>, String)> {
        let part_bytes = PART_BYTES.max(self.target.store.capabilities().part_len_min);
        let (mut parts, mut sum, mut offset) = (Vec::new(), Sha256::new(), 0);
        while offset < length {
            let bytes = part_bytes.min(length - offset);
            pace.wait(bytes).await;
            let body = read_part(path, offset, bytes).await?;
            sum.update(&body);
            let position = PartPosition { number: parts.len() as u32 + 1, offset };
            parts.push(self.target.store.put_part(key.as_bytes(), upload, position, vec![body]).await?);
            offset += bytes;
            progress(offset);
        }
        Ok((parts, hex(&sum.finalize())))
    }
}

async fn read_part(path: &Path, offset: u64, length: u64) -> Result<Bytes> {
    let path: PathBuf = path.to_owned();
    let read = move || {
        let mut buffer = vec![0; length as usize];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut buffer, offset));
        read.map_err(BackupError::local("read", path)).map(|()| Bytes::from(buffer))
    };
    tokio::task::spawn_blocking(read).await.map_err(ended)?
}

/// The files of a directory with their checksums, by name.
fn describe(directory: &Path) -> Result<Vec<BackupFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(BackupError::local("list", directory))? {
        let entry = entry.map_err(BackupError::local("list", directory))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| BackupError::damaged(format!("{name:?} is not the name of a file of ours")))?;
        let (length, sha256) = checksum(&entry.path())?;
        files.push(BackupFile { name, length, sha256 });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn checksum(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(BackupError::local("open", path))?;
    let (mut buffer, mut sum, mut length) = (vec![0; READ_BYTES], Sha256::new(), 0);
    loop {
        let read = file.read(&mut buffer).map_err(BackupError::local("read", path))?;
        if read == 0 {
            return Ok((length, hex(&sum.finalize())));
        }
        sum.update(&buffer[..read]);
        length += read as u64;
    }
}

/// Spreads bytes over time.
struct Pace {
    bytes_per_second: u64,
    next: Instant,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), next: Instant::now() }
    }

    /// Waits until `bytes` more may go.
    async fn wait(&mut self, bytes: u64) {
        tokio::time::sleep_until(self.next).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.next = self.next.max(Instant::now()) + takes;
    }
}
