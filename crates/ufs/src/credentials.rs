//! Where a store's credentials come from. Secrets never show in debug output.

use std::fmt;
use std::path::PathBuf;

/// Where a store's credentials come from. A mount keeps this (a reference), never what it yields, unless keys were given outright.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CredentialSource {
    /// The usual order of the store's own tools: environment, profile, web identity, container, instance metadata.
    #[default]
    Automatic,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A named profile of `~/.aws/credentials` and `~/.aws/config`, or of the files that `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name.
    Profile(String),
    /// A file in the form of `~/.aws/credentials`, read again when it changes.
    File {
        /// Where it lies on the hosts of masters and workers.
        path: PathBuf,
        /// Which of its profiles; `default` when none is given.
        profile: String,
    },
    /// The role of this EC2 instance (IMDSv2) or ECS or EKS container.
    InstanceMetadata,
    /// These keys.
    Keys(AccessKeys),
    /// Unsigned requests, for public buckets.
    Anonymous,
}

/// Keys given outright.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeys {
    /// Names the key; not secret.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// Set for temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeys")
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"(hidden)")
            .field("session_token", &self.session_token.as_ref().map(|_| "(hidden)"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_secrets() {
        let source = CredentialSource::Keys(AccessKeys {
            access_key_id: "AKIA1".into(),
            secret_access_key: "verysecret".into(),
            session_token: Some("tokensecret".into()),
        });
        let text = format!("{source:?}");
        assert!(text.contains("AKIA1"), "{text}");
        assert!(!text.contains("verysecret") && !text.contains("tokensecret"), "{text}");
    }
}
