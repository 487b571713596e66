//! What is copied or moved: what arguments stand for, and the files and directories at and below it.

use super::{STANDARD_STREAM, attributes::Attributes, local};
use crate::cli::{
    fs::{
        explain,
        walk::{self, Found},
    },
    glob,
    place::Place,
};
use anyhow::bail;
use forebay_base::{FileId, NsPath};
use forebay_client::{Client, Entry};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use std::{ffi::OsStr, fmt, path::PathBuf};

/// Something to copy.
#[derive(Clone, Debug)]
pub(in crate::cli::fs) enum Source {
    Tree(NsPath),
    Local(PathBuf),
    Stdin,
}

/// One file or directory at or below a source.
pub(super) struct Item {
    pub(super) from: Source,
    /// Where below the source: empty for the source itself.
    pub(super) below: Vec<u8>,
    pub(super) is_directory: bool,
    pub(super) length: u64,
    /// Somebody still writes it.
    pub(super) unfinished: bool,
    pub(super) attributes: Attributes,
    /// Of the tree: which one it is.
    pub(super) id: Option<FileId>,
}

/// Which links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    All,
    /// Links to directories are errors: what lies behind them is not the source's own.
    ToFiles,
}

impl Item {
    /// Whether it lies in the directory at `path` below the source.
    pub(super) fn is_below(&self, path: &[u8]) -> bool {
        self.below.strip_prefix(path).is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Tree(path) => path.fmt(f),
            Source::Local(path) => write!(f, "file:{}", path.display()),
            Source::Stdin => f.write_str("standard input"),
        }
    }
}

impl Source {
    /// What an argument stands for.
    pub(in crate::cli::fs) async fn find(client: &Client, argument: &OsStr) -> anyhow::Result<Vec<Source>> {
        if argument == STANDARD_STREAM {
            return Ok(vec![Source::Stdin]);
        }
        let paths = match Place::parse(argument) {
            Place::Tree(pattern) => glob::expand(client, &pattern).await?,
            Place::Local(path) => return Ok(vec![Source::Local(path)]),
        };
        if let [path] = paths.as_slice() {
            explain(client, path, client.stat(path).await).await?;
        }
        Ok(paths.into_iter().map(Source::Tree).collect())
    }

    /// Not so pipes and the like: what was read of them is gone.
    pub(super) fn can_be_read_again(&self) -> bool {
        match self {
            Source::Tree(_) => true,
            Source::Local(path) => std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()),
            Source::Stdin => false,
        }
    }

    /// The source and, of a directory, all below it.
    pub(super) fn items(&self, client: &Client, links: Links) -> BoxStream<'static, anyhow::Result<Item>> {
        match self {
            Source::Tree(path) => tree_items(client, path.clone()).boxed(),
            Source::Local(path) => local::items(path.clone(), links).boxed(),
            Source::Stdin => {
                let item = Item {
                    from: Source::Stdin,
                    below: Vec::new(),
                    is_directory: false,
                    length: 0,
                    unfinished: false,
                    attributes: Attributes::default(),
                    id: None,
                };
                futures::stream::iter([Ok(item)]).boxed()
            }
        }
    }
}

fn tree_items(client: &Client, root: NsPath) -> impl Stream<Item = anyhow::Result<Item>> + Send + 'static {
    walk::walk(client.clone(), root.clone()).and_then(move |found| {
        let root = root.clone();
        async move {
            let (Found::Directory(entry) | Found::File(entry)) = found;
            let Some(below) = entry.path.below(&root) else { bail!("{} is not below {root}", entry.path) };
            let below = below.to_vec();
            Ok(tree_item(entry, below))
        }
    })
}

fn tree_item(entry: Entry, below: Vec<u8>) -> Item {
    Item {
        below,
        is_directory: entry.is_directory(),
        length: entry.length,
        unfinished: entry.is_file() && !entry.complete,
        attributes: Attributes::of_entry(&entry),
        id: Some(entry.file_id()),
        from: Source::Tree(entry.path),
    }
}
