//! Stores in the tree.

use crate::error::Result;
use crate::types::entry::bad_reply;
use forebay_base::{MountId, NsPath};
use forebay_proto::v1;
use std::collections::BTreeMap;
use std::fmt;

/// A store and how to reach it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MountSpec {
    /// `s3://bucket/prefix` or `file:///directory`.
    pub uri: String,
    /// Refuse all changes below it.
    pub read_only: bool,
    /// How old metadata may be before the store is asked again: a duration such as `60s`, `0` (always ask) or `never`.
    /// Empty: `60s`.
    pub sync_interval: String,
    /// Options by name: `endpoint`, `region`, `path_style`, `profile`, `credentials_file`, `block_size`, `page_size`, …
    pub options: BTreeMap<String, String>,
    /// Secrets by name: `access_key_id`, `secret_access_key`, `session_token`. Never in a reply, never printed.
    pub secrets: BTreeMap<String, String>,
}

/// A mounted store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its identity.
    pub id: MountId,
    /// Where it is mounted.
    pub path: NsPath,
    /// The store; without secrets.
    pub spec: MountSpec,
    /// Where its credentials come from, in words.
    pub credentials: String,
}

/// A mount that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedMount {
    /// As it is now.
    pub mount: Mount,
    /// The check saw nothing below the store's prefix: a new one, or a mistyped one.
    pub empty: bool,
}

/// Changes of a mount; what is `None` or empty stays.
#[derive(Clone, Default)]
pub struct MountChanges {
    /// Refuse all changes below it, or allow them.
    pub read_only: Option<bool>,
    /// How old metadata may be; as in [`MountSpec::sync_interval`].
    pub sync_interval: Option<String>,
    /// Options to set.
    pub set_options: BTreeMap<String, String>,
    /// Names of options to remove.
    pub unset_options: Vec<String>,
    /// Secrets to set.
    pub set_secrets: BTreeMap<String, String>,
    /// Do not check that the store answers.
    pub skip_check: bool,
}

impl fmt::Debug for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountSpec")
            .field("uri", &self.uri)
            .field("read_only", &self.read_only)
            .field("sync_interval", &self.sync_interval)
            .field("options", &self.options)
            .field("secrets", &self.secrets.keys())
            .finish()
    }
}

impl fmt::Debug for MountChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountChanges")
            .field("read_only", &self.read_only)
            .field("sync_interval", &self.sync_interval)
            .field("set_options", &self.set_options)
            .field("unset_options", &self.unset_options)
            .field("set_secrets", &self.set_secrets.keys())
            .field("skip_check", &self.skip_check)
            .finish()
    }
}

impl Mount {
    pub(crate) fn from_wire(entry: Option<v1::MountEntry>) -> Result<Mount> {
        let entry = entry.ok_or_else(|| bad_reply("a reply without a mount"))?;
        let path = NsPath::parse(&entry.path).map_err(|error| bad_reply(&error.to_string()))?;
        Ok(Mount {
            id: MountId(entry.mount),
            path,
            spec: entry.spec.map(MountSpec::from).unwrap_or_default(),
            credentials: entry.credentials,
        })
    }
}

impl From<v1::MountSpec> for MountSpec {
    fn from(spec: v1::MountSpec) -> MountSpec {
        MountSpec {
            uri: spec.uri,
            read_only: spec.read_only,
            sync_interval: spec.sync_interval,
            options: spec.options.into_iter().collect(),
            secrets: spec.secrets.into_iter().collect(),
        }
    }
}

impl From<MountSpec> for v1::MountSpec {
    fn from(spec: MountSpec) -> v1::MountSpec {
        v1::MountSpec {
            uri: spec.uri,
            read_only: spec.read_only,
            sync_interval: spec.sync_interval,
            options: spec.options.into_iter().collect(),
            secrets: spec.secrets.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let secrets = BTreeMap::from([("secret_access_key".to_owned(), "hunter2".to_owned())]);
        let spec = MountSpec { secrets: secrets.clone(), ..MountSpec::default() };
        let changes = MountChanges { set_secrets: secrets, ..MountChanges::default() };
        for text in [format!("{spec:?}"), format!("{changes:?}")] {
            assert!(text.contains("secret_access_key") && !text.contains("hunter2"), "{text}");
        }
    }
}
