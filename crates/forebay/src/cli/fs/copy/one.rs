//! One file from here to there.

use super::{
    attributes::{self, Attributes},
    local::{self, LocalWriter, NewFile},
    remove::{Identity, Version},
    source::Source,
    target::Target,
};
use crate::cli::{failure, output};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use forebay_base::{ErrorKind, TimestampMs};
use forebay_client::{Client, CreateOptions, File, OpenOptions, ReadType, StatOptions, SyncMode, WriteType, Writer};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use std::{fs::Metadata, os::fd::AsFd};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read from a local file at a time.
const CHUNK: usize = 1 << 20;

/// What the user chose.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::fs) struct Options {
    pub(in crate::cli::fs) no_clobber: bool,
    pub(in crate::cli::fs) preserve: Preserve,
    pub(in crate::cli::fs) no_cache: bool,
}

/// What a copy keeps besides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::fs) enum Preserve {
    Nothing,
    Time,
    /// Time, owner and mode, and the bytes are on the disk: the source is removed afterwards.
    All,
}

impl Options {
    fn preserves_all(self) -> bool {
        self.preserve == Preserve::All
    }
}

/// What was copied.
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) version: Version,
}

/// The content of a file, and what is known of it.
struct Content {
    chunks: BoxStream<'static, anyhow::Result<Bytes>>,
    /// Unknown of a stream.
    length: Option<u64>,
    modified_ms: Option<u64>,
    attributes: Attributes,
    origin: Origin,
}

/// Where a content comes from.
enum Origin {
    /// As long as nothing has been read it may turn to a newer version.
    Tree(File),
    Local(Identity),
    Stream,
}

impl Origin {
    fn version(&self) -> Version {
        match self {
            Origin::Tree(file) => Version::Tree(file.entry().file_id()),
            Origin::Local(identity) => Version::Local(*identity),
            Origin::Stream => Version::Stream,
        }
    }
}

/// Copies a file; says what was copied, or none when it was left alone.
///
/// What another program put at the target meanwhile is replaced too: the master looks at the store, and the copy starts again, once.
pub(super) async fn copy(
    client: &Client,
    from: &Source,
    to: &Target,
    options: Options,
    done: impl Fn(u64),
) -> anyhow::Result<Option<Copied>> {
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
) -> anyhow::Result<Option<Copied>> {
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
    let version = content.origin.version();
    if !sink.close(&content, options).await? {
        return Ok(None);
    }
    if options.preserves_all() {
        attributes::move_xattrs(client, from, to).await?;
    }
    Ok(Some(Copied { bytes: copied, version }))
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
            let how = OpenOptions {
                read_type: options.no_cache.then_some(ReadType::NoCache),
                // What is to be removed is what the store has now.
                sync: if options.preserves_all() { SyncMode::Now } else { SyncMode::ByInterval },
            };
            let file = client.open_with(path, how).await?;
            let entry = file.entry();
            ensure!(entry.complete, "{path} is being written: it has no content yet");
            let chunks = file.stream(..).map_err(anyhow::Error::from).boxed();
            let attributes = Attributes::of_entry(&entry);
            let (length, modified_ms) = (Some(entry.length), Some(entry.modified.0));
            Ok(Content { chunks, length, modified_ms, attributes, origin: Origin::Tree(file) })
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
                attributes: known.map(Attributes::of_local).unwrap_or_default(),
                origin: known.map_or(Origin::Stream, |metadata| Origin::Local(Identity::of(metadata))),
            })
        }
        Source::Stdin => {
            let stdin = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            let chunks = chunks(tokio::fs::File::from_std(stdin)).boxed();
            let attributes = Attributes::default();
            Ok(Content { chunks, length: None, modified_ms: None, attributes, origin: Origin::Stream })
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
                let writer = client.create(path, create_options(content, options)).await?;
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

    /// Whether the target has the content now; not so when it was left alone.
    async fn close(self, content: &Content, options: Options) -> anyhow::Result<bool> {
        match self {
            Sink::Tree(writer) => writer.close().await.map(|_| true).map_err(Into::into),
            Sink::Local(writer) => {
                let new = NewFile {
                    replace: !options.no_clobber,
                    modified_ms: kept_time(content, options),
                    mode: content.attributes.mode.filter(|_| options.preserves_all()),
                    synced: options.preserves_all(),
                };
                writer.close(new).await
            }
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

fn kept_time(content: &Content, options: Options) -> Option<u64> {
    content.modified_ms.filter(|_| options.preserve != Preserve::Nothing)
}

fn create_options(content: &Content, options: Options) -> CreateOptions {
    let usual = CreateOptions {
        overwrite: !options.no_clobber,
        write_type: if options.no_cache { WriteType::Through } else { WriteType::CacheThrough },
        modified: kept_time(content, options).map(TimestampMs),
        ..CreateOptions::default()
    };
    if !options.preserves_all() {
        return usual;
    }
    let Attributes { owner, group, mode } = content.attributes.clone();
    CreateOptions { owner, group, mode: mode.unwrap_or(usual.mode), ..usual }
}
