//! Patterns in paths of the tree: `*`, `?`, `[a-z]`, `{a,b}` within a name, `**` for any number of directories.

use anyhow::Context;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::Client;
use futures::{TryStreamExt, future::BoxFuture};
use globset::{GlobBuilder, GlobMatcher};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// Paths that one pattern may match at most, so that a slip does not take all memory.
const MATCHES_MAX: usize = 1_000_000;

/// The paths that `pattern` stands for, sorted: itself when nothing in it is a pattern or a path of that very name exists.
///
/// # Errors
/// `not_found` when a pattern matches nothing.
pub(crate) async fn expand(client: &Client, pattern: &[u8]) -> anyhow::Result<Vec<NsPath>> {
    let literal = NsPath::parse(pattern)?;
    if !is_pattern(pattern) {
        return Ok(vec![literal]);
    }
    match client.stat(&literal).await {
        Ok(_) => return Ok(vec![literal]),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error.into()),
    }
    let steps = literal.names().map(|name| Step::parse(name.as_bytes())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut found = Vec::new();
    walk(client, NsPath::root(), &steps, &mut found).await?;
    found.sort();
    found.dedup();
    if found.is_empty() {
        let text = String::from_utf8_lossy(pattern).into_owned();
        return Err(forebay_client::Error::new(ErrorKind::NotFound, format!("nothing matches {text}")).into());
    }
    Ok(found)
}

/// Whether the bytes hold a character with a meaning in patterns.
pub(crate) fn is_pattern(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{'))
}

/// What one name of the pattern asks for.
enum Step {
    Literal(Vec<u8>),
    Matching(GlobMatcher),
    AnyDirectories,
}

impl Step {
    fn parse(name: &[u8]) -> anyhow::Result<Step> {
        if name == b"**" {
            return Ok(Step::AnyDirectories);
        }
        if !is_pattern(name) {
            return Ok(Step::Literal(name.to_vec()));
        }
        let text = std::str::from_utf8(name).context("a pattern must be UTF-8")?;
        let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|error| {
            let message = format!("bad pattern {text:?}: {}", error.kind());
            forebay_client::Error::new(ErrorKind::InvalidArgument, message)
        })?;
        Ok(Step::Matching(glob.compile_matcher()))
    }
}

fn walk<'a>(
    client: &'a Client,
    at: NsPath,
    steps: &'a [Step],
    found: &'a mut Vec<NsPath>,
) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(async move {
        anyhow::ensure!(found.len() < MATCHES_MAX, "the pattern matches more than {MATCHES_MAX} paths: narrow it");
        let Some((step, rest)) = steps.split_first() else {
            found.push(at);
            return Ok(());
        };
        match step {
            Step::Literal(name) => literal(client, at, name, rest, found).await,
            Step::Matching(glob) => {
                let matches = |name: &[u8]| glob.is_match(Path::new(OsStr::from_bytes(name)));
                for (child, is_directory) in children(client, &at, matches).await? {
                    if rest.is_empty() || is_directory {
                        walk(client, child, rest, found).await?;
                    }
                }
                Ok(())
            }
            Step::AnyDirectories => {
                if !rest.is_empty() {
                    walk(client, at.clone(), rest, found).await?;
                }
                for (child, is_directory) in children(client, &at, |_| true).await? {
                    if is_directory {
                        walk(client, child, steps, found).await?;
                    } else if rest.is_empty() {
                        found.push(child);
                    }
                }
                Ok(())
            }
        }
    })
}

async fn literal(
    client: &Client,
    at: NsPath,
    name: &[u8],
    rest: &[Step],
    found: &mut Vec<NsPath>,
) -> anyhow::Result<()> {
    let child = at.join(&forebay_base::Name::new(name.to_vec())?)?;
    if !rest.is_empty() {
        return walk(client, child, rest, found).await;
    }
    match client.stat(&child).await {
        Ok(_) => found.push(child),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn children(
    client: &Client,
    at: &NsPath,
    matches: impl Fn(&[u8]) -> bool,
) -> anyhow::Result<Vec<(NsPath, bool)>> {
    let mut kept = Vec::new();
    let mut entries = client.list(at)?;
    loop {
        match entries.try_next().await {
            Ok(Some(entry)) if entry.name().is_some_and(|name| matches(name.as_bytes())) => {
                let is_directory = entry.is_directory();
                kept.push((entry.path, is_directory));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(kept),
            // A literal step before this one need not exist, or may be a file.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(kept),
            Err(error) => return Err(error.into()),
        }
        anyhow::ensure!(
            kept.len() < MATCHES_MAX,
            "{at} has more than {MATCHES_MAX} matching entries: narrow the pattern"
        );
    }
}
