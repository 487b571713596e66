//! Configuration: one TOML file, overridden by `FOREBAY_*` variables, overridden by flags.
//!
//! [`Settings`] is the single list of what can be set: its doc comments and defaults make the schema ([`keys`]) from which
//! unknown keys are found, environment variables are named and `docs/configuration.md` is written ([`document()`]).

mod conflicts;
mod document;
mod keys;
mod layers;
mod limits;
mod paths;
mod settings;
mod shown;
mod values;

pub(crate) use conflicts::resolved;
pub(crate) use document::document;
pub(crate) use layers::{Config, ConfigError, Flags, load};
pub(crate) use limits::STALENESS_MAX;
pub(crate) use settings::{
    BackupSettings, DirectorySettings, LogFormat, LogSettings, ReadType, Role, Settings, TierKind, TierSettings,
};

pub(crate) use keys::nearest;

/// The dotted name of every setting, in the order of the documentation.
pub(crate) fn key_names() -> Vec<String> {
    keys::all().into_iter().map(|key| key.name).collect()
}
