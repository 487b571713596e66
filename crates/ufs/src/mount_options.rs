//! From the options and secrets of a mount to [`OpenOptions`]: one table for masters and workers alike.

use crate::open::invalid;
use crate::{AccessKeys, CredentialSource, OpenOptions, UfsResult};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes of a block.
pub const BLOCK_SIZE: &str = "block_size";
/// Bytes of a page.
pub const PAGE_SIZE: &str = "page_size";
/// Bytes of a part of an upload.
pub const PART_SIZE: &str = "part_size";
/// Answer with what is known when the store does not answer.
pub const SERVE_STALE: &str = "serve_stale";
/// Whether clients that no worker serves may read from the store itself: [`DIRECT_FALLBACK`] or [`DIRECT_NEVER`].
pub const DIRECT: &str = "direct";
/// They may: the default.
pub const DIRECT_FALLBACK: &str = "fallback";
/// They may not.
pub const DIRECT_NEVER: &str = "never";
/// Options of a mount that are the master's, none of the store's business.
pub const OF_MASTER: [&str; 5] = [BLOCK_SIZE, PAGE_SIZE, PART_SIZE, SERVE_STALE, DIRECT];
/// Options that say where credentials come from.
pub const OF_CREDENTIALS: [&str; 3] = [CREDENTIALS, CREDENTIALS_FILE, PROFILE];
/// Secrets of a mount.
pub const SECRETS: [&str; 3] = [ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN];

const PROFILE: &str = "profile";
const CREDENTIALS_FILE: &str = "credentials_file";
const CREDENTIALS: &str = "credentials";
const ACCESS_KEY_ID: &str = "access_key_id";
const SECRET_ACCESS_KEY: &str = "secret_access_key";
const SESSION_TOKEN: &str = "session_token";

/// The name of an option or secret as it is kept: people write `block-size` and `block_size` alike.
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

impl OpenOptions {
    /// The options of a mount. The credentials come from its secrets (`access_key_id`, `secret_access_key`, `session_token`) if it has any, else from its
    /// option `credentials_file` (with `profile`), `profile`, or `credentials` (`automatic`, `environment`, `instance` or `anonymous`); every
    /// other option but those of [`OF_MASTER`] is the store's. `uri` is for messages.
    pub fn from_mount<'a>(
        uri: &str,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
        secrets: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> UfsResult<OpenOptions> {
        let mut options: BTreeMap<String, String> = options
            .into_iter()
            .filter(|(name, _)| !OF_MASTER.contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let referenced = reference(uri, &mut options)?;
        let credentials = keys(uri, secrets)?.unwrap_or(referenced);
        Ok(OpenOptions { options, credentials })
    }
}

/// Takes the options that say where credentials come from.
fn reference(uri: &str, options: &mut BTreeMap<String, String>) -> UfsResult<CredentialSource> {
    let profile = options.remove(PROFILE);
    let file = options.remove(CREDENTIALS_FILE);
    let named = options.remove(CREDENTIALS);
    if let Some(path) = file {
        return Ok(CredentialSource::File {
            path: PathBuf::from(path),
            profile: profile.unwrap_or_else(|| "default".to_owned()),
        });
    }
    if let Some(profile) = profile {
        return Ok(CredentialSource::Profile(profile));
    }
    match named.as_deref() {
        None | Some("automatic") => Ok(CredentialSource::Automatic),
        Some("environment") => Ok(CredentialSource::Environment),
        Some("instance") => Ok(CredentialSource::InstanceMetadata),
        Some("anonymous") => Ok(CredentialSource::Anonymous),
        Some(other) => Err(invalid(
            uri,
            format!("option credentials has the value {other:?}"),
            "allowed are automatic, environment, instance and anonymous",
        )),
    }
}

/// Keys given outright.
fn keys<'a>(uri: &str, secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> UfsResult<Option<CredentialSource>> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for (name, value) in secrets {
        match name {
            ACCESS_KEY_ID => id = Some(value.to_owned()),
            SECRET_ACCESS_KEY => secret = Some(value.to_owned()),
            SESSION_TOKEN => token = Some(value.to_owned()),
            other => {
                return Err(invalid(
                    uri,
                    format!("unknown secret {other:?}"),
                    format!("known are {}", SECRETS.join(", ")),
                ));
            }
        }
    }
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Ok(Some(CredentialSource::Keys(AccessKeys { access_key_id, secret_access_key, session_token: token })))
        }
        (None, None) if token.is_none() => Ok(None),
        _ => Err(invalid(uri, "the access keys are not complete", "give both access_key_id and secret_access_key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &[(&str, &str)], secrets: &[(&str, &str)], expected: CredentialSource) {
        let got = OpenOptions::from_mount(
            "s3://b",
            options.iter().copied().chain([("region", "r"), ("page_size", "1MiB")]),
            secrets.iter().copied(),
        )
        .unwrap();
        assert_eq!(got.credentials, expected);
        assert_eq!(got.options, BTreeMap::from([("region".into(), "r".into())]));
    }

    #[test]
    fn credentials_by_what_is_given() {
        check(&[], &[], CredentialSource::Automatic);
        let anonymous = ("credentials", "anonymous");
        check(&[anonymous], &[], CredentialSource::Anonymous);
        let profile = CredentialSource::Profile("p".into());
        check(&[("profile", "p")], &[], profile);
        let file = CredentialSource::File { path: "/f".into(), profile: "default".into() };
        check(&[("credentials_file", "/f")], &[], file);
        let keys = CredentialSource::Keys(AccessKeys {
            access_key_id: "id".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        });
        let given = [("access_key_id", "id"), ("secret_access_key", "secret")];
        check(&[("profile", "p")], &given, keys);
    }

    #[test]
    fn half_keys_and_unknown_words_are_refused() {
        let no = [("", ""); 0];
        for secrets in [("access_key_id", "id"), ("session_token", "t"), ("password", "p")] {
            assert!(OpenOptions::from_mount("s3://b", no, [secrets]).is_err());
        }
        assert!(OpenOptions::from_mount("s3://b", [("credentials", "mine")], no).is_err());
    }
}
