//! Backups that somebody asks for.

use crate::backups::{self, Made, Wanted, backup_error};
use crate::core::Core;
use crate::error::{Result, invalid, store_error};
use crate::seat::Seat;
use forebay_backup::{Progress, Target};
use forebay_proto::v1;
use forebay_proto::v1::backups_server::Backups;
use forebay_ufs::{OpenOptions, mount_options};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// The service.
#[derive(Clone)]
pub(crate) struct BackupsService(pub(crate) Arc<Seat>);

type Replies = ReceiverStream<std::result::Result<v1::CreateBackupReply, Status>>;

#[tonic::async_trait]
impl Backups for BackupsService {
    type CreateBackupStream = Replies;

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> std::result::Result<Response<Replies>, Status> {
        let core = self.0.core()?;
        let wanted = wanted(request.into_inner())?;
        let (tell, told) = mpsc::channel(4);
        tokio::spawn(make(core, wanted, tell));
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// Makes it, as long as this master leads and somebody waits for it.
async fn make(core: Arc<Core>, wanted: Wanted, tell: mpsc::Sender<std::result::Result<v1::CreateBackupReply, Status>>) {
    let progress = Mutex::new(Progress::default());
    let note = |now| *progress.lock() = now;
    let mut work = pin!(core.while_leading(backups::create(&core, &wanted, &note)));
    let mut tick = tokio::time::interval(SIGN_OF_LIFE);
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            () = tell.closed() => return tracing::info!("a backup was given up: who asked for it has gone"),
            _ = tick.tick() => {
                let Progress { done, total, sent } = *progress.lock();
                // One that is not taken yet says as much.
                let _ = tell.try_send(Ok(v1::CreateBackupReply { done, total, sent, made: None }));
            }
        }
    };
    let reply = outcome.map(|made| reply_of(&made)).map_err(|error| {
        backups::count_failure();
        tracing::warn!(to = wanted.target.uri(), %error, "a backup could not be made");
        Status::from(error.as_last_word())
    });
    // Nobody may wait any more.
    let _ = tell.send(reply).await;
}

fn wanted(request: v1::CreateBackupRequest) -> Result<Wanted> {
    let target = request.target.filter(|target| !target.uri.is_empty());
    let target =
        target.ok_or_else(|| invalid("a backup needs a target", "name it with --to, as in s3://bucket/prefix"))?;
    let canonical = |named: std::collections::HashMap<String, String>| -> BTreeMap<String, String> {
        named.into_iter().map(|(name, value)| (mount_options::canonical(&name), value)).collect()
    };
    let (options, secrets) = (canonical(target.options), canonical(target.secrets));
    let options = OpenOptions::from_mount(
        &target.uri,
        options.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    )
    .map_err(store_error)?;
    let keep = Some(request.keep as usize).filter(|keep| *keep > 0);
    Ok(Wanted { target: Target::open(&target.uri, &options).map_err(backup_error)?, full: request.full, keep })
}

fn reply_of(made: &Made) -> v1::CreateBackupReply {
    let (sent, manifest) = (&made.sent, &made.sent.manifest);
    let bytes = manifest.bytes();
    let made = v1::BackupMade {
        id: manifest.id.to_string(),
        cluster: manifest.cluster.clone(),
        created_ms: manifest.created_ms,
        index: manifest.index,
        inodes: manifest.inodes,
        files: manifest.files.len() as u64,
        bytes,
        sent_files: sent.sent_files as u64,
        sent_bytes: sent.sent_bytes,
        removed_backups: made.swept.backups as u64,
    };
    v1::CreateBackupReply { done: bytes, total: bytes, sent: sent.sent_bytes, made: Some(made) }
}
