//! OpenDAL alone: what its users get from the same store without us.

use anyhow::Result;
use forebay_testkit::s3::Access;
use opendal::Operator;
use opendal::services::S3;

/// An operator of a bucket.
pub(crate) fn operator(bucket: &str, access: &Access) -> Result<Operator> {
    // OpenDAL's HTTP client wants one even where it talks plain HTTP; a second call finds one installed, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    opendal_http_transport_reqwest::install_default();
    let service = S3::default()
        .bucket(bucket)
        .endpoint(&access.endpoint)
        .region(&access.region)
        .access_key_id(&access.access_key)
        .secret_access_key(&access.secret_key)
        .disable_config_load();
    Ok(Operator::new(service)?)
}
