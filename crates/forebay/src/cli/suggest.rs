//! What somebody probably meant by a path that does not exist.

use crate::cli::failure;
use crate::config::nearest;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, Entry, ListOptions, SyncMode};
use futures::TryStreamExt;
use std::path::Path;

/// Names of the directory that are looked at.
const NAMES_MAX: u32 = 1000;

/// Adds to a "not found" the nearest name that exists, or the local file of that name.
pub(crate) async fn add(client: &Client, path: &NsPath, error: anyhow::Error) -> anyhow::Error {
    let has_hint =
        error.chain().filter_map(|c| c.downcast_ref::<forebay_client::Error>()).any(|e| !e.hint().is_empty());
    if failure::kind(&error) != Some(ErrorKind::NotFound) || has_hint {
        return error;
    }
    match near(client, path).await {
        Some(hint) => {
            let message = failure::message(&error);
            forebay_client::Error::new(ErrorKind::NotFound, message).with_hint(hint).into()
        }
        None => error,
    }
}

async fn near(client: &Client, path: &NsPath) -> Option<String> {
    let missing = first_missing(client, path).await?;
    let parent = missing.parent()?;
    let options = ListOptions { sync: SyncMode::Never, limit: Some(NAMES_MAX), ..ListOptions::default() };
    let entries: Vec<Entry> = client.list_with(&parent, options).ok()?.try_collect().await.ok()?;
    let names: Vec<String> = entries.iter().filter_map(Entry::name).map(|name| name.to_string()).collect();
    let typed = missing.file_name()?.to_string();
    if let Some(name) = nearest(&typed, names.iter().map(String::as_str)) {
        let shown = if parent.is_root() { format!("/{name}") } else { format!("{parent}/{name}") };
        return Some(format!("did you mean {shown}?"));
    }
    let local = path.to_string();
    Path::new(&local).exists().then(|| format!("{local} exists on this machine: write file:{local} for local files"))
}

/// The topmost path on the way that does not exist.
async fn first_missing(client: &Client, path: &NsPath) -> Option<NsPath> {
    for step in path.ancestors_and_self() {
        match client.stat(&step).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Some(step),
            Err(_) => return None,
        }
    }
    None
}
