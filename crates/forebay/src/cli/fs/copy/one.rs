//! One file from here to there.

use super::{
    Source,
    local::{self, LocalWriter},
    target::Target,
};
use crate::cli::{failure, output};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use forebay_base::{ErrorKind, TimestampMs};
use forebay_client::{Client, CreateOptions, OpenOptions, StatOptions, SyncMode, WriteType, Writer};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use std::{fs::Metadata, os::fd::AsFd};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read from a local file at a time.
const CHUNK: usize = 1 << 20;

/// What the user chose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) no_clobber: bool,
    pub(super) preserve: bool,
    pub(super) no_cache: bool,
}

/// The content of a file, and what is known of it.
struct Content {
    chunks: BoxStream<'static, anyhow::Result<Bytes>>,
    /// Unknown of a stream.
    length: Option<u64>,
    modified_ms: Option<u64>,
}

/// Copies a file; says how many bytes it had, or none when it was left alone.
///
/// What another program put at the target meanwhile is replaced too: the master looks at the store, and the copy starts again, once.
pub(super) async fn copy(
    client: &Client,
    from: &Source,
    to: &Target,
    options: Options,
    done: impl Fn(u64),
) -> anyhow::Result<Option<u64>> {
    if options.no_clobber && exists(client, to).await? {
        return Ok(None);
    }
    let copied = once(client, from, to, options, &done).await;
    let Err(error) = copied else { return copied };
    match (failure::kind(&error), to) {
        (Some(ErrorKind::AlreadyExists), _) if options.no_clobber => Ok(None),
        (Some(ErrorKind::AlreadyExists | ErrorKind::Conflict), Target::Tree { path, .. })
            if from.can_be_read_again() =>
        {
            // The failed write itself stands in the way until it is abandoned.
            client.settled().await;
            let now = StatOptions { sync: SyncMode::Now, ..StatOptions::default() };
            match client.stat_with(path, now).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
                _ => once(client, from, to, options, &done).await,
            }
        }
        _ => Err(error),
    }
}

async fn once(
    client: &Client,
    from: &Source,
    to: &Target,
    options: Options,
    done: &impl Fn(u64),
) -> anyhow::Result<Option<u64>> {
    let mut content = open(client, from, options).await?;
    let mut sink = Sink::create(client, to, &content, options).await?;
    let mut copied = 0;
    while let Some(chunk) = content.chunks.try_next().await? {
        copied += chunk.len() as u64;
        done(chunk.len() as u64);
        sink.write(chunk).await?;
    }
    if let Some(expected) = content.length.filter(|expected| *expected != copied) {
        sink.abandon().await;
        bail!("{from} changed while it was copied: {copied} bytes came, {expected} were there at the start");
    }
    let kept = content.modified_ms.filter(|_| options.preserve);
    Ok(sink.close(!options.no_clobber, kept).await?.then_some(copied))
}

async fn exists(client: &Client, target: &Target) -> anyhow::Result<bool> {
    match target {
        Target::Local { path, .. } => Ok(tokio::fs::try_exists(path).await?),
        Target::Stdout => Ok(false),
        Target::Tree { path, .. } => match client.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}

async fn open(client: &Client, from: &Source, options: Options) -> anyhow::Result<Content> {
    match from {
        Source::Tree(path) => {
            let how = OpenOptions { no_cache: options.no_cache, ..OpenOptions::default() };
            let file = client.open_with(path, how).await?;
            let entry = file.entry();
            ensure!(entry.complete, "{path} is being written: it has no content yet");
            let chunks = file.stream(..).map_err(anyhow::Error::from).boxed();
            Ok(Content { chunks, length: Some(entry.length), modified_ms: Some(entry.modified.0) })
        }
        Source::Local(path) => {
            let file = tokio::fs::File::open(path).await?;
            let metadata = file.metadata().await?;
            ensure!(!metadata.is_dir(), "{from} is a directory");
            // Pipes and devices have no length, and no time that means anything.
            let known = metadata.is_file().then_some(&metadata);
            Ok(Content {
                chunks: chunks(file).boxed(),
                length: known.map(Metadata::len),
                modified_ms: known.and_then(local::modified_ms),
            })
        }
        Source::Stdin => {
            let stdin = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            let chunks = chunks(tokio::fs::File::from_std(stdin)).boxed();
            Ok(Content { chunks, length: None, modified_ms: None })
        }
    }
}

fn chunks(from: impl AsyncRead + Unpin) -> impl Stream<Item = anyhow::Result<Bytes>> {
    futures::stream::try_unfold(from, |mut from| async move {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
        while chunk.len() < CHUNK && from.read_buf(&mut chunk).await.context("cannot read")? > 0 {}
        Ok((!chunk.is_empty()).then(|| (chunk.freeze(), from)))
    })
}

enum Sink {
    Tree(Box<Writer>),
    Local(LocalWriter),
    Stdout,
}

impl Sink {
    async fn create(client: &Client, to: &Target, content: &Content, options: Options) -> anyhow::Result<Sink> {
        match to {
            Target::Tree { path, .. } => {
                let modified = content.modified_ms.filter(|_| options.preserve).map(TimestampMs);
                let write_type = if options.no_cache { WriteType::Through } else { WriteType::CacheThrough };
                let how =
                    CreateOptions { overwrite: !options.no_clobber, write_type, modified, ..CreateOptions::default() };
                let writer = client.create(path, how).await?;
                if let Err(error) = writer.check_length(content.length.unwrap_or(0)) {
                    writer.abandon().await.ok();
                    return Err(error.into());
                }
                Ok(Sink::Tree(Box::new(writer)))
            }
            Target::Local { path, .. } => Ok(Sink::Local(LocalWriter::create(path)?)),
            Target::Stdout => Ok(Sink::Stdout),
        }
    }

    async fn write(&mut self, chunk: Bytes) -> anyhow::Result<()> {
        match self {
            Sink::Tree(writer) => Ok(writer.write(chunk).await?),
            Sink::Local(writer) => writer.write(&chunk).await,
            Sink::Stdout => output::bytes(&chunk),
        }
    }

    async fn close(self, replace: bool, modified_ms: Option<u64>) -> anyhow::Result<bool> {
        match self {
            Sink::Tree(writer) => writer.close().await.map(|_| true).map_err(Into::into),
            Sink::Local(writer) => writer.close(replace, modified_ms).await,
            Sink::Stdout => output::flush().map(|()| true),
        }
    }

    async fn abandon(self) {
        if let Sink::Tree(writer) = self {
            // A writer that is only dropped is abandoned too, a little later.
            let _ = writer.abandon().await;
        }
    }
}
