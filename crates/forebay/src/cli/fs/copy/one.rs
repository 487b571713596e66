//! One file from here to there.

use super::{
    Source,
    local::{self, LocalWriter},
    target::Target,
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use forebay_base::{ErrorKind, TimestampMs};
use forebay_client::{Client, CreateOptions, OpenOptions, WriteType, Writer};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use std::path::Path;
use tokio::io::AsyncReadExt;

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
    length: u64,
    modified_ms: Option<u64>,
}

/// Copies a file; says how many bytes it had, or none when it was left alone.
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
    let mut content = open(client, from, options).await?;
    let mut sink = Sink::create(client, to, &content, options).await?;
    let mut copied = 0;
    while let Some(chunk) = content.chunks.try_next().await? {
        copied += chunk.len() as u64;
        done(chunk.len() as u64);
        sink.write(chunk).await?;
    }
    if copied != content.length {
        sink.abandon().await;
        bail!("{from} changed while it was copied: {copied} bytes came, {} were there at the start", content.length);
    }
    let kept = content.modified_ms.filter(|_| options.preserve);
    Ok(sink.close(!options.no_clobber, kept).await?.then_some(copied))
}

async fn exists(client: &Client, target: &Target) -> anyhow::Result<bool> {
    match target {
        Target::Local { path, .. } => Ok(tokio::fs::try_exists(path).await?),
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
            Ok(Content { chunks, length: entry.length, modified_ms: Some(entry.modified.0) })
        }
        Source::Local(path) => {
            let file = tokio::fs::File::open(path).await?;
            let metadata = file.metadata().await?;
            ensure!(metadata.is_file(), "{from} is not a regular file");
            let modified_ms = local::modified_ms(&metadata);
            Ok(Content { chunks: read_local(file).boxed(), length: metadata.len(), modified_ms })
        }
    }
}

fn read_local(file: tokio::fs::File) -> impl Stream<Item = anyhow::Result<Bytes>> {
    futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
        while chunk.len() < CHUNK && file.read_buf(&mut chunk).await.context("cannot read")? > 0 {}
        Ok((!chunk.is_empty()).then(|| (chunk.freeze(), file)))
    })
}

enum Sink {
    Tree(Box<Writer>),
    Local(LocalWriter),
}

impl Sink {
    async fn create(client: &Client, to: &Target, content: &Content, options: Options) -> anyhow::Result<Sink> {
        match to {
            Target::Tree { path, .. } => {
                let modified = content.modified_ms.filter(|_| options.preserve).map(TimestampMs);
                let write_type = if options.no_cache { WriteType::Through } else { WriteType::CacheThrough };
                let how =
                    CreateOptions { overwrite: !options.no_clobber, write_type, modified, ..CreateOptions::default() };
                Ok(Sink::Tree(Box::new(client.create(path, how).await?)))
            }
            Target::Local { path, .. } => Ok(Sink::Local(LocalWriter::create(Path::new(path))?)),
        }
    }

    async fn write(&mut self, chunk: Bytes) -> anyhow::Result<()> {
        match self {
            Sink::Tree(writer) => Ok(writer.write(chunk).await?),
            Sink::Local(writer) => writer.write(&chunk).await,
        }
    }

    async fn close(self, replace: bool, modified_ms: Option<u64>) -> anyhow::Result<bool> {
        match self {
            Sink::Tree(writer) => writer.close().await.map(|_| true).map_err(Into::into),
            Sink::Local(writer) => writer.close(replace, modified_ms).await,
        }
    }

    async fn abandon(self) {
        if let Sink::Tree(writer) = self {
            // A writer that is only dropped is abandoned too, a little later.
            let _ = writer.abandon().await;
        }
    }
}
