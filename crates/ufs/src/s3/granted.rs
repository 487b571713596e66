//! Reading by a signed URL, on a line to the store that all such reads share.

use super::config::{Addressing, S3Config};
use super::http::Http;
use super::{read, tls};
use crate::failure::Failures;
use crate::{ByteStream, HttpGrant, ReadGrant, UfsResult};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The time-outs are those of a mount that says nothing of them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STALL_TIMEOUT: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(20);

/// Connections to a store.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    endpoint: String,
    client: reqwest::Client,
    reads: Arc<Semaphore>,
}

impl Line {
    /// Scheme and authority of a URL: what connections are shared for.
    pub(crate) fn endpoint(url: &str) -> String {
        let authority = url.find("://").map_or(0, |at| at + 3);
        let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
        url[..end].to_owned()
    }

    /// A line to `endpoint`; `store` is for messages.
    pub(crate) fn new(store: &str, endpoint: &str, authorities: &[u8], reads_max: usize) -> UfsResult<Line> {
        let client = tls::client_trusting(&config(store, endpoint, reads_max), authorities)?;
        Ok(Line { endpoint: endpoint.to_owned(), client, reads: Arc::new(Semaphore::new(reads_max)) })
    }

    /// The bytes of a range by a signed GET.
    pub(crate) async fn read(&self, grant: &ReadGrant, http: &HttpGrant, range: Range<u64>) -> UfsResult<ByteStream> {
        let failures = Failures::new(&grant.store);
        let at = failures.at("read", &grant.key);
        at.check_range(&range, grant.expected.length)?;
        if range.is_empty() {
            return Err(at.invalid("no bytes are asked for"));
        }
        let config = config(&grant.store, &self.endpoint, 1);
        let http = Http::granted(config, http.clone(), self.client.clone(), Arc::clone(&self.reads));
        // The object's own name in the bucket is in the URL alone.
        read::open(Arc::new(http), &grant.key, String::new(), range, &grant.expected).await
    }
}

/// What a store is that is known by a signed URL.
fn config(store: &str, endpoint: &str, reads_max: usize) -> S3Config {
    S3Config {
        uri: store.to_owned(),
        bucket: String::new(),
        prefix: String::new(),
        endpoint: endpoint.to_owned(),
        region: String::new(),
        addressing: Addressing::Path,
        ca_file: None,
        checksums: false,
        conditional_writes: false,
        connect_timeout: CONNECT_TIMEOUT,
        stall_timeout: STALL_TIMEOUT,
        deadline: DEADLINE,
        requests_max: 1,
        reads_max,
        copy_part_len: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_and_authority() {
        for (url, endpoint) in [
            ("http://127.0.0.1:9000/b/k?X=1", "http://127.0.0.1:9000"),
            ("https://b.s3.example.com/a%20b", "https://b.s3.example.com"),
            ("https://h?x=/y", "https://h"),
        ] {
            assert_eq!(Line::endpoint(url), endpoint);
        }
    }
}
