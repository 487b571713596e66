//! What the tests against S3 servers share.

use forebay_testkit::s3::{Access, S3Server};
use forebay_ufs::{AccessKeys, CredentialSource, OpenOptions, Ufs};
use std::sync::Arc;

/// Makes a bucket.
pub(crate) async fn bucket(server: &S3Server, name: &str) {
    server.create_bucket(name).await.expect("bucket");
}

/// The options of a store behind an access.
pub(crate) fn options(access: &Access, more: &[(&str, &str)]) -> OpenOptions {
    let keys = AccessKeys {
        access_key_id: access.access_key.clone(),
        secret_access_key: access.secret_key.clone(),
        session_token: None,
    };
    let given = [("endpoint", access.endpoint.as_str()), ("region", access.region.as_str())];
    OpenOptions {
        options: given.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        credentials: CredentialSource::Keys(keys),
    }
}

/// A store behind an access.
pub(crate) fn open(access: &Access, uri: &str) -> Arc<dyn Ufs> {
    open_with(access, uri, &[])
}

/// The same, with more options.
pub(crate) fn open_with(access: &Access, uri: &str, more: &[(&str, &str)]) -> Arc<dyn Ufs> {
    forebay_ufs::open(uri, &options(access, more)).expect("open")
}
