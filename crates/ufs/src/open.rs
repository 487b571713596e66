//! From a URI to a store: the table of schemes.

use crate::{CredentialSource, Failure, Ufs, UfsError, UfsResult, mount_options, userinfo};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How to reach a store, beside its URI.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The scheme's own options, by name.
    pub options: BTreeMap<String, String>,
    /// Where the credentials come from.
    pub credentials: CredentialSource,
}

/// A kind of store.
struct Scheme {
    /// What stands before `://`.
    name: &'static str,
    /// How a URI of it looks, for messages.
    example: &'static str,
    /// Makes the store; the URI is whole, `rest` is what follows `://`.
    open: fn(uri: &str, rest: &str, options: &OpenOptions) -> UfsResult<Arc<dyn Ufs>>,
}

/// Every kind of store. A new one is one line here.
const SCHEMES: &[Scheme] = &[
    Scheme { name: "file", example: "file:///directory", open: crate::local::open },
    Scheme { name: "memory", example: "memory://name", open: crate::memory::open },
    Scheme { name: "s3", example: "s3://bucket/prefix", open: crate::s3::open },
];

/// The store of a URI, e.g. `s3://bucket/prefix` or `file:///data`. Does no I/O: whether the store answers is [`Ufs::check`]'s to say.
///
/// An unknown scheme or option, or a bad value, is [`UfsError::Invalid`] and names the nearest known one.
pub fn open(uri: &str, options: &OpenOptions) -> UfsResult<Arc<dyn Ufs>> {
    let Some((name, rest)) = uri.split_once("://") else {
        let hint = format!("write it as one of: {}", examples());
        return Err(invalid(uri, "the URI has no scheme", hint));
    };
    match SCHEMES.iter().find(|scheme| scheme.name == name) {
        Some(scheme) => {
            let store = (scheme.open)(uri, rest, options)?;
            Ok(Arc::new(crate::metered::Metered::new(store)))
        }
        None => {
            let known: Vec<&str> = SCHEMES.iter().map(|scheme| scheme.name).collect();
            let hint = did_you_mean(name, &known)
                .map(|near| format!("did you mean {near}://?"))
                .unwrap_or_else(|| format!("write it as one of: {}", examples()));
            let detail = format!("unknown scheme {name:?}");
            Err(invalid(uri, detail, hint))
        }
    }
}

fn examples() -> String {
    let all: Vec<&str> = SCHEMES.iter().map(|scheme| scheme.example).collect();
    all.join(", ")
}

/// The error of a URI or option that cannot be used. Keys in the URI are not shown.
pub(crate) fn invalid(uri: &str, detail: impl Into<String>, hint: impl Into<String>) -> UfsError {
    UfsError::Invalid(Box::new(Failure {
        operation: "open",
        store: userinfo::hidden(uri).into_owned(),
        key: String::new(),
        detail: detail.into(),
        hint: hint.into(),
    }))
}

/// Refuses options that a scheme does not know.
pub(crate) fn check_names(uri: &str, options: &OpenOptions, known: &[&str]) -> UfsResult<()> {
    for name in options.options.keys() {
        if known.contains(&name.as_str()) {
            continue;
        }
        let hint = match did_you_mean(name, &all_of_a_mount(known)) {
            Some(near) => format!("did you mean {near}?"),
            None if known.is_empty() => "this kind of store has no options".to_owned(),
            None => format!(
                "known options: {}; of every mount: {}; for credentials: {}",
                known.join(", "),
                mount_options::OF_MASTER.join(", "),
                [&mount_options::OF_CREDENTIALS[..], &mount_options::SECRETS].concat().join(", ")
            ),
        };
        return Err(invalid(uri, format!("unknown option {name:?}"), hint));
    }
    Ok(())
}

/// What may be written at a mount: the store's own options and those that others take before it.
fn all_of_a_mount<'a>(known: &[&'a str]) -> Vec<&'a str> {
    [known, &mount_options::OF_MASTER, &mount_options::OF_CREDENTIALS, &mount_options::SECRETS].concat()
}

/// The known word that the user may have meant.
fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(score, _)| *score >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(uri: &str, options: &[(&str, &str)], detail: &str, hint: &str) {
        let options = OpenOptions {
            options: options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            ..OpenOptions::default()
        };
        let error = open(uri, &options).expect_err(uri);
        assert!(matches!(error, UfsError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(detail), "{error}");
        assert!(error.hint().contains(hint), "{}", error.hint());
    }

    #[test]
    fn unknown_schemes_name_the_nearest() {
        check_refused("memry://x", &[], "unknown scheme \"memry\"", "did you mean memory://?");
        check_refused("gopher://x", &[], "unknown scheme", "write it as one of: ");
        check_refused("/data", &[], "no scheme", "memory://name");
    }

    #[test]
    fn what_others_take_before_the_store_is_suggested_too() {
        check_refused("s3://b", &[("acess_key_id", "x")], "unknown option", "did you mean access_key_id?");
        check_refused("s3://b", &[("pagesize", "1MiB")], "unknown option", "did you mean page_size?");
    }

    #[test]
    fn unknown_options_are_refused() {
        check_refused("memory://x", &[("color", "red")], "unknown option \"color\"", "no options");
    }
}
