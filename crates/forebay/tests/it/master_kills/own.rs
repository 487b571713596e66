//! What one client alone changes: each outcome is known beforehand.

use super::{MARK, Node, Tree};
use anyhow::{Result, bail, ensure};
use forebay_client::{
    AttributeChanges, Client, CreateOptions, DeleteOptions, ErrorKind, MakeDirectoryOptions, RenameOptions, SyncMode,
    Xattr,
};
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng};

/// More entries than this are not kept.
const ENTRIES_MAX: usize = 40;
/// Deeper directories are not made.
const DEPTH_MAX: usize = 6;

#[derive(Clone, Debug)]
enum Op {
    MakeDirectory(String),
    /// Creates or overwrites.
    Write(String, Vec<u8>),
    Rename(String, String),
    Delete(String),
    SetAttributes(String, u32, u64),
}

/// One client's trees, and what it does not know.
pub(super) struct Own {
    plain: String,
    disk: String,
    tree: Tree,
    /// Sent, and not answered.
    pending: Option<Op>,
    /// Changes in the store that were under way when the client went away, with what was there before. They end in the background, so
    /// their paths are not used any more.
    open: Vec<(Op, Tree)>,
    serial: u64,
}

impl Own {
    pub(super) async fn make(client: &Client, index: usize) -> Result<Own> {
        let (plain, disk) = (format!("/own/{index}"), format!("/disk/own-{index}"));
        let options = || MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
        client.make_directory(plain.as_str(), options()).await?;
        client.make_directory(disk.as_str(), options()).await?;
        Ok(Own { plain, disk, tree: Tree::new(), pending: None, open: Vec::new(), serial: 0 })
    }

    pub(super) fn roots(&self) -> [String; 2] {
        [self.plain.clone(), self.disk.clone()]
    }

    /// Chooses what to do next, and what must come of it.
    fn next(&mut self, random: &mut StdRng) -> (Op, Result<(), ErrorKind>) {
        self.serial += 1;
        let root = if random.random_bool(0.5) { self.plain.clone() } else { self.disk.clone() };
        let (directories, all) = self.paths(&root);
        let new_name = |random: &mut StdRng, serial: u64, directories: &[String]| {
            format!("{}/{serial}", directories[random.random_range(0..directories.len())])
        };
        let new = new_name(random, self.serial, &directories);
        // Nothing above a path whose end is open moves away.
        let free: Vec<&String> = all.iter().filter(|path| !self.holds_open(path)).collect();
        if free.is_empty() {
            return (Op::MakeDirectory(new), Ok(()));
        }
        let chosen = free[random.random_range(0..free.len())].clone();
        if all.len() > ENTRIES_MAX {
            return (Op::Delete(chosen), Ok(()));
        }
        match random.random_range(0..100) {
            0..4 => (Op::MakeDirectory(chosen), Err(ErrorKind::AlreadyExists)),
            4..8 => (Op::Delete(format!("{new}-missing")), Err(ErrorKind::NotFound)),
            8..30 => (Op::MakeDirectory(new), Ok(())),
            30..55 if root == self.disk => {
                let is_file = self.tree[&chosen].content.is_some();
                let path = if is_file && random.random_bool(0.5) { chosen } else { new };
                let length = random.random_range(0..4_000);
                (Op::Write(path, content(self.serial, length)), Ok(()))
            }
            30..60 => (Op::SetAttributes(chosen, random.random_range(0..0o1000), self.serial), Ok(())),
            60..85 if !new.starts_with(&format!("{chosen}/")) => (Op::Rename(chosen, new), Ok(())),
            _ => (Op::Delete(chosen), Ok(())),
        }
    }

    /// Directories of one tree in which something can be made, and all its paths.
    fn paths(&self, root: &str) -> (Vec<String>, Vec<String>) {
        let below = format!("{root}/");
        let own = self.tree.iter().filter(|(path, _)| path.starts_with(&below));
        let all: Vec<String> = own.clone().map(|(path, _)| path.clone()).collect();
        let directories = own.filter(|(path, node)| node.content.is_none() && path.matches('/').count() < DEPTH_MAX);
        let mut directories: Vec<String> = directories.map(|(path, _)| path.clone()).collect();
        directories.push(root.to_owned());
        (directories, all)
    }

    /// Whether nothing is under way whose end is not known.
    pub(super) fn is_steady(&self) -> bool {
        self.pending.is_none() && self.open.is_empty()
    }

    fn holds_open(&self, path: &str) -> bool {
        self.open.iter().any(|(op, _)| op.paths().any(|open| is_at_or_below(open, path)))
    }

    /// What was found after a restart, against what is known.
    pub(super) fn compare(&mut self, mut found: Tree, sync: SyncMode) -> Result<()> {
        if let Some(op) = self.pending.take() {
            self.decide(op, &found);
        }
        for (op, before) in &self.open {
            let there = cut(&mut found, op);
            let last = sync == SyncMode::Now;
            ensure!(op.may_be(&there, before, last), "{op:?} over {before:?} was under way; then: {there:?}");
        }
        same(&found, &self.tree)
    }

    /// A request that nobody knows the end of: what one command does is decided now; what goes to the store and then into the log may still
    /// be ended by the server.
    fn decide(&mut self, op: Op, found: &Tree) {
        let in_store = op.paths().all(|path| path.starts_with(&format!("{}/", self.disk)));
        let lasts = matches!(op, Op::MakeDirectory(_) | Op::Write(..) | Op::Rename(..));
        if in_store && lasts {
            let before = cut(&mut self.tree, &op);
            self.open.push((op, before));
            return;
        }
        let mut after = self.tree.clone();
        op.apply(&mut after);
        let at = |tree: &Tree| op.paths().flat_map(|path| subtree(tree, path)).collect::<Tree>();
        if at(found) == at(&after) {
            self.tree = after;
        }
    }
}

/// Does one thing.
pub(super) async fn step(client: &Client, own: &Mutex<Own>, random: &Mutex<StdRng>) -> Result<()> {
    let (op, expected) = {
        let mut own = own.lock();
        let (op, expected) = own.next(&mut random.lock());
        own.pending = expected.is_ok().then(|| op.clone());
        (op, expected)
    };
    let outcome = op.send(client).await;
    let mut own = own.lock();
    own.pending = None;
    match (&outcome, &expected) {
        (Ok(()), Ok(())) => op.apply(&mut own.tree),
        (Err(error), Err(kind)) if error.kind() == *kind => {}
        _ => bail!("{op:?}: {outcome:?} instead of {expected:?}"),
    }
    Ok(())
}

impl Op {
    async fn send(&self, client: &Client) -> forebay_client::Result<()> {
        match self {
            Op::MakeDirectory(path) => {
                client.make_directory(path.as_str(), MakeDirectoryOptions::default()).await.map(drop)
            }
            Op::Write(path, content) => write(client, path, content).await,
            Op::Rename(from, to) => client.rename(from.as_str(), to.as_str(), RenameOptions::default()).await,
            Op::Delete(path) => {
                let options = DeleteOptions { recursive: true, ..DeleteOptions::default() };
                client.delete(path.as_str(), options).await
            }
            Op::SetAttributes(path, mode, mark) => {
                let xattr = Xattr { name: MARK.into(), value: mark.to_string().into() };
                let changes =
                    AttributeChanges { mode: Some(*mode), set_xattrs: vec![xattr], ..AttributeChanges::default() };
                client.set_attributes(path.as_str(), changes).await.map(drop)
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Op::Rename(from, to) => (from, Some(to)),
            Op::MakeDirectory(path) | Op::Write(path, _) | Op::Delete(path) | Op::SetAttributes(path, ..) => {
                (path, None)
            }
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }

    /// What it makes of a tree.
    fn apply(&self, tree: &mut Tree) {
        match self {
            Op::MakeDirectory(path) => {
                let node = Node { content: None, complete: true, mode: 0o755, owner: String::new(), mark: 0 };
                tree.insert(path.clone(), node);
            }
            Op::Write(path, content) => {
                let new = Node { content: None, complete: true, mode: 0o644, owner: String::new(), mark: 0 };
                tree.entry(path.clone()).or_insert(new).content = Some(content.clone());
            }
            Op::Rename(from, to) => {
                for (path, node) in subtree(tree, from) {
                    tree.remove(&path);
                    tree.insert(format!("{to}{}", &path[from.len()..]), node);
                }
            }
            Op::Delete(path) => tree.retain(|other, _| !is_at_or_below(other, path)),
            Op::SetAttributes(path, mode, mark) => {
                let node = tree.get_mut(path).unwrap();
                (node.mode, node.mark) = (*mode, *mark);
            }
        }
    }

    /// Whether it may have left this. At the end (`last`) no file is being written any more.
    fn may_be(&self, there: &Tree, before: &Tree, last: bool) -> bool {
        let mut after = before.clone();
        self.apply(&mut after);
        match self {
            // Attributes are the new file's or those of what the store shows.
            Op::Write(path, content) => match there.get(path) {
                None => before.is_empty(),
                Some(node) if !node.complete => !last && before.is_empty() && there.len() == 1,
                Some(node) => {
                    let old = before.get(path).map(|node| &node.content);
                    node.content.as_ref() == Some(content) || Some(&node.content) == old
                }
            },
            // As made, or as the store shows it.
            Op::MakeDirectory(path) => there.is_empty() || there.get(path).is_some_and(|node| node.content.is_none()),
            _ => there == before || *there == after,
        }
    }
}

async fn write(client: &Client, path: &str, content: &[u8]) -> forebay_client::Result<()> {
    let mut writer = client.create(path, CreateOptions { overwrite: true, ..CreateOptions::default() }).await?;
    writer.write(content.to_vec()).await?;
    writer.close().await.map(drop)
}

/// Bytes that no other write has.
fn content(serial: u64, length: usize) -> Vec<u8> {
    format!("{serial} ").into_bytes().into_iter().cycle().take(length).collect()
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn subtree(tree: &Tree, top: &str) -> Tree {
    let own = tree.iter().filter(|(path, _)| is_at_or_below(path, top));
    own.map(|(path, node)| (path.clone(), node.clone())).collect()
}

/// Takes what lies at and below the paths of `op` out of a tree.
fn cut(tree: &mut Tree, op: &Op) -> Tree {
    let taken: Tree = op.paths().flat_map(|path| subtree(tree, path)).collect();
    tree.retain(|path, _| !taken.contains_key(path));
    taken
}

fn same(found: &Tree, known: &Tree) -> Result<()> {
    for (path, node) in known {
        match found.get(path) {
            None => bail!("{path} is gone; it was {node:?}"),
            Some(other) => {
                // Owners are not what these trees are about.
                let other = Node { owner: String::new(), ..other.clone() };
                ensure!(other == *node, "{path} is {other:?}; it was {node:?}");
            }
        }
    }
    match found.iter().find(|(path, _)| !known.contains_key(*path)) {
        Some((path, node)) => bail!("{path} is there, and was not: {node:?}"),
        None => Ok(()),
    }
}
