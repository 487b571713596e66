//! How an under store names one version of an object.

/// The mark by which a store tells one content of an object from another: an ETag, or for a local
/// file a text of modification time, length and inode number. Opaque: equal marks mean equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct VersionTag(pub String);

impl VersionTag {
    /// The mark of a store that gives none: content is then told apart by time and length alone.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for VersionTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
