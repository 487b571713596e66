//! Files below a path of the tree, one after another, at constant memory per level.

use forebay_base::NsPath;
use forebay_client::{Client, Entry};
use futures::{Stream, TryStreamExt};

/// What [`walk`] found.
pub(crate) enum Found {
    /// A directory; it comes before what lies below it.
    Directory(Entry),
    /// A file.
    File(Entry),
}

/// The path itself and, of a directory, all below it. The listing of each level is open while its subdirectories are walked.
pub(crate) fn walk(client: Client, path: NsPath) -> impl Stream<Item = anyhow::Result<Found>> + Send {
    let start = State::Start(path);
    futures::stream::try_unfold((client, start), |(client, state)| async move {
        let mut levels = match state {
            State::Start(path) => {
                let entry = client.stat(&path).await?;
                return Ok(Some(step(client, entry, Vec::new())?));
            }
            State::Inside(levels) => levels,
        };
        while let Some(mut level) = levels.pop() {
            if let Some(entry) = level.try_next().await? {
                levels.push(level);
                return Ok(Some(step(client, entry, levels)?));
            }
        }
        Ok(None)
    })
}

enum State {
    Start(NsPath),
    Inside(Vec<forebay_client::ListStream>),
}

type Step = (Found, (Client, State));

fn step(client: Client, entry: Entry, mut levels: Vec<forebay_client::ListStream>) -> anyhow::Result<Step> {
    if entry.is_file() {
        return Ok((Found::File(entry), (client, State::Inside(levels))));
    }
    levels.push(client.list(&entry.path)?);
    Ok((Found::Directory(entry), (client, State::Inside(levels))))
}
