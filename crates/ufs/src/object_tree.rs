//! How flat keys of an object store become a tree: the rule for one name with two objects, and pages of listings.
//!
//! An object store can hold `a`, `a/` (a marker) and `a/b` at once. In the tree, a file with bytes keeps its name and hides the directory; an
//! empty file gives way to the directory, because some tools mark directories by empty objects. The rule needs both sides, and the listing order may
//! have anything between them: `a`, `a-b`, `a.c`, `a/`. When one side is not on the page at hand, it is asked for by one request. That can
//! only happen to names that are a proper prefix of a page's border, so there are few of them on any page.

use crate::{Hidden, ListCursor, ListEntry, ListKey, ListPage, ObjectKind, ObjectMeta, UfsResult, key};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;

/// The two questions that are asked of a store for one name.
#[async_trait]
pub(crate) trait Probe: Sync {
    /// The object of exactly this key.
    async fn object(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>>;

    /// Whether any key begins with this key and a slash.
    async fn has_below(&self, key: &[u8]) -> UfsResult<bool>;
}

/// What lies at a key, by the rule.
pub(crate) async fn stat(probe: &dyn Probe, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
    if key.is_empty() {
        return Ok(Some(ObjectMeta::directory()));
    }
    match probe.object(key).await? {
        Some(file) if file.length > 0 => Ok(Some(file)),
        empty_or_none => Ok(match probe.has_below(key).await? {
            true => Some(ObjectMeta::directory()),
            false => empty_or_none,
        }),
    }
}

/// One row of a listing with delimiter, its name relative to the directory.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// An object; the name is empty for the directory's own marker.
    Object(Bytes, ObjectMeta),
    /// Something whose key goes on after this name and a slash.
    Prefix(Bytes),
}

impl Row {
    fn list_key(&self) -> ListKey {
        match self {
            Row::Object(name, _) => ListKey::new(name, ObjectKind::File),
            Row::Prefix(name) => ListKey::new(name, ObjectKind::Directory),
        }
    }

    fn name(&self) -> &Bytes {
        match self {
            Row::Object(name, _) | Row::Prefix(name) => name,
        }
    }
}

/// What a store answered to one request of a listing.
pub(crate) struct RawPage {
    /// In any order; all after the place asked for, or repeating it.
    pub(crate) rows: Vec<Row>,
    /// Whether there is more.
    pub(crate) more: bool,
    /// The store's own mark to go on.
    pub(crate) token: Option<String>,
}

/// Makes the page of a tree out of a raw one.
pub(crate) async fn page(
    probe: &dyn Probe,
    directory: &[u8],
    from: Option<&ListKey>,
    raw: RawPage,
) -> UfsResult<ListPage> {
    let mut rows: Vec<(ListKey, Row)> = raw.rows.into_iter().map(|row| (row.list_key(), row)).collect();
    rows.retain(|(place, _)| from.is_none_or(|from| place > from));
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|a, b| a.0 == b.0);
    let end = rows.last().map(|(place, _)| place.clone());
    let builder = Builder {
        probe,
        directory,
        from,
        cut_at: if raw.more { end.clone() } else { None },
        lengths: lengths_by_name(&rows),
    };
    let mut page = builder.build(rows).await?;
    if raw.more {
        let after = end.or_else(|| from.cloned()).unwrap_or_else(|| ListKey(Bytes::new()));
        page.next = Some(ListCursor { after, token: raw.token });
    }
    Ok(page)
}

/// Of each name on the page: the file's length if there is a file, and whether there is a directory.
#[derive(Clone, Copy, Default)]
struct Both {
    file_length: Option<u64>,
    directory: bool,
}

fn lengths_by_name(rows: &[(ListKey, Row)]) -> HashMap<Bytes, Both> {
    let mut names: HashMap<Bytes, Both> = HashMap::with_capacity(rows.len());
    for (_, row) in rows {
        let both = names.entry(row.name().clone()).or_default();
        match row {
            Row::Object(_, meta) => both.file_length = Some(meta.length),
            Row::Prefix(_) => both.directory = true,
        }
    }
    names
}

struct Builder<'a> {
    probe: &'a dyn Probe,
    directory: &'a [u8],
    from: Option<&'a ListKey>,
    /// The last place of the page when the listing goes on behind it.
    cut_at: Option<ListKey>,
    lengths: HashMap<Bytes, Both>,
}

impl Builder<'_> {
    async fn build(&self, rows: Vec<(ListKey, Row)>) -> UfsResult<ListPage> {
        let mut page = ListPage::default();
        for (_, row) in rows {
            if is_own_marker(&row) {
                if let Row::Object(_, meta) = row {
                    page.marker = Some(meta);
                }
                continue;
            }
            let name = row.name().clone();
            if !key::is_name(&name) {
                page.skipped.add(&key::join(self.directory, &name));
                continue;
            }
            let (meta, hides) = match row {
                Row::Object(_, meta) => {
                    let hides = meta.length == 0 && self.has_directory(&name).await?;
                    (meta, hides)
                }
                Row::Prefix(_) => (ObjectMeta::directory(), self.has_file_with_bytes(&name).await?),
            };
            if hides {
                page.hidden.push(Hidden { name, meta });
            } else {
                page.entries.push(ListEntry { name, meta });
            }
        }
        Ok(page)
    }

    async fn has_directory(&self, name: &Bytes) -> UfsResult<bool> {
        if self.lengths.get(name).is_some_and(|both| both.directory) {
            return Ok(true);
        }
        let place = ListKey::new(name, ObjectKind::Directory);
        match &self.cut_at {
            Some(cut_at) if place > *cut_at => self.probe.has_below(&key::join(self.directory, name)).await,
            _ => Ok(false),
        }
    }

    async fn has_file_with_bytes(&self, name: &Bytes) -> UfsResult<bool> {
        if let Some(length) = self.lengths.get(name).and_then(|both| both.file_length) {
            return Ok(length > 0);
        }
        let place = ListKey::new(name, ObjectKind::File);
        if self.from.is_none_or(|from| place > *from) {
            return Ok(false);
        }
        let file = self.probe.object(&key::join(self.directory, name)).await?;
        Ok(file.is_some_and(|file| file.length > 0))
    }
}

/// The marker of the listed directory itself: its key is the prefix that was asked for.
fn is_own_marker(row: &Row) -> bool {
    matches!(row, Row::Object(name, _) if name.is_empty())
}
