//! Files below a path of the tree, one after another, at constant memory per level.

use crate::cli::failure::Failures;
use forebay_base::NsPath;
use forebay_client::{Client, Entry};
use futures::{Stream, StreamExt, TryStreamExt};

/// What [`walk`] found.
pub(crate) enum Found {
    /// A directory; it comes before what lies below it.
    Directory(Entry),
    /// A file.
    File(Entry),
}

/// The path itself and, of a directory, all below it. The listing of each level is open while its subdirectories are walked. A directory
/// that cannot be listed is an error in its place, and the walk goes on behind it.
pub(crate) fn walk(client: Client, path: NsPath) -> impl Stream<Item = anyhow::Result<Found>> + Send {
    let start = State::Start(path);
    futures::stream::unfold((client, start), |(client, state)| async move {
        let mut levels = match state {
            State::Start(path) => match client.stat(&path).await {
                Ok(entry) => return Some(step(client, entry, Vec::new())),
                Err(error) => return Some((Err(error.into()), (client, State::Inside(Vec::new())))),
            },
            State::Inside(levels) => levels,
        };
        while let Some(mut level) = levels.pop() {
            match level.try_next().await {
                Ok(Some(entry)) => {
                    levels.push(level);
                    return Some(step(client, entry, levels));
                }
                Ok(None) => {}
                Err(error) => return Some((Err(error.into()), (client, State::Inside(levels)))),
            }
        }
        None
    })
}

/// Does something with each file at or below a path, some at the same time. A file that fails is told, and the others are done all the same;
/// one that somebody still writes is left out, with a note.
pub(crate) async fn each_file<'a, F>(
    client: &'a Client,
    path: NsPath,
    parallel: usize,
    failures: &Failures,
    work: impl Fn(Entry) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + 'a,
{
    let work = &work;
    let started = walk(client.clone(), path).map(Ok);
    started
        .try_for_each_concurrent(parallel, |found| async move {
            match failures.take_of_many(found)? {
                Some(Found::File(entry)) if entry.complete => failures.take_of_many(work(entry).await).map(drop),
                Some(Found::File(entry)) => {
                    unfinished(&entry);
                    Ok(())
                }
                Some(Found::Directory(_)) | None => Ok(()),
            }
        })
        .await
}

/// Says that a file is left out because it has no content yet.
pub(crate) fn unfinished(entry: &Entry) {
    eprintln!("note: {} is being written and left out: it has no content yet", entry.path);
}

enum State {
    Start(NsPath),
    Inside(Vec<forebay_client::ListStream>),
}

type Step = (anyhow::Result<Found>, (Client, State));

fn step(client: Client, entry: Entry, mut levels: Vec<forebay_client::ListStream>) -> Step {
    if entry.is_file() {
        return (Ok(Found::File(entry)), (client, State::Inside(levels)));
    }
    let found = match client.list(&entry.path) {
        Ok(level) => {
            levels.push(level);
            Ok(Found::Directory(entry))
        }
        Err(error) => Err(error.into()),
    };
    (found, (client, State::Inside(levels)))
}
