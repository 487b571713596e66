//! A small S3 client: enough to fill buckets and to look at what Forebay left there, with every answer as it came.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context as SigningContext, SignRequest};
use serde::Deserialize;

/// Where a store is and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub endpoint: String,
    /// Who we are.
    pub access_key: String,
    /// What proves it.
    pub secret_key: String,
    /// The region that requests are signed for.
    pub region: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.access_key, self.endpoint, self.region)
    }
}

impl Access {
    /// The same store through another address, as through a [`crate::fault::Proxy`].
    pub fn through(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self.clone() }
    }

    /// The variables that S3 programs read their credentials from.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", &self.region),
        ]
    }

    /// A client for this store.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Object {
    /// Its name, decoded.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its tag, with the quotes that belong to it.
    #[serde(rename = "ETag", default)]
    pub etag: String,
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Upload {
    /// The name the object will have.
    pub key: String,
    /// What names the upload.
    pub upload_id: String,
}

/// An S3 client that signs with SigV4, addresses by path, and never retries: tests want to see each answer.
#[derive(Clone, Debug)]
pub struct Client {
    access: Access,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client for the store.
    pub fn new(access: Access) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { access, http }
    }

    /// Where it talks to.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Sends one signed request; any status is an answer. `key` and the query are given as they are, not encoded.
    pub async fn request(
        &self,
        method: Method,
        bucket: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>> {
        let uri = format!("{}{}", self.access.endpoint, target(bucket, key, query));
        let (mut parts, ()) = Request::builder().method(method).uri(uri).body(())?.into_parts();
        parts.headers = headers;
        self.sign(&mut parts).await?;
        let what = format!("{} {}", parts.method, parts.uri);
        let response = self.http.request(Request::from_parts(parts, Full::new(body))).await;
        let (parts, body) = response.with_context(|| what.clone())?.into_parts();
        let body = body.collect().await.with_context(|| format!("reading the answer to {what}"))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    async fn sign(&self, parts: &mut http::request::Parts) -> Result<()> {
        let credential = Credential {
            access_key_id: self.access.access_key.clone(),
            secret_access_key: self.access.secret_key.clone(),
            session_token: None,
            expires_in: None,
        };
        let signer = RequestSigner::new("s3", &self.access.region);
        signer.sign_request(&SigningContext::new(), parts, Some(&credential), None).await?;
        Ok(())
    }

    async fn simple(
        &self,
        method: Method,
        bucket: &str,
        key: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Bytes>> {
        self.request(method, bucket, key, query, HeaderMap::new(), body).await
    }

    /// Makes a bucket; one that is there already is fine.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let response = self.simple(Method::PUT, bucket, "", &[], Bytes::new()).await?;
        if response.status() == StatusCode::CONFLICT && text(&response).contains("BucketAlreadyOwnedByYou") {
            return Ok(());
        }
        expect_success(&response, &format!("making the bucket {bucket}"))
    }

    /// Stores an object, and returns its tag.
    pub async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<String> {
        let response = self.simple(Method::PUT, bucket, key, &[], body.into()).await?;
        expect_success(&response, &format!("storing {bucket}/{key}"))?;
        Ok(header_text(&response, header::ETAG))
    }

    /// The bytes of an object.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes> {
        let response = self.simple(Method::GET, bucket, key, &[], Bytes::new()).await?;
        expect_success(&response, &format!("reading {bucket}/{key}"))?;
        Ok(response.into_body())
    }

    /// Length and tag of an object, or `None` if there is none.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<Object>> {
        let response = self.simple(Method::HEAD, bucket, key, &[], Bytes::new()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        expect_success(&response, &format!("asking for {bucket}/{key}"))?;
        let size = header_text(&response, header::CONTENT_LENGTH).parse().context("an object's length is a number")?;
        Ok(Some(Object { key: key.to_owned(), size, etag: header_text(&response, header::ETAG) }))
    }

    /// Deletes an object; one that is not there is fine.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let response = self.simple(Method::DELETE, bucket, key, &[], Bytes::new()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        expect_success(&response, &format!("deleting {bucket}/{key}"))
    }

    /// Every object below a prefix, all pages of it.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        let mut token = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let page: ListPage = self.get_xml(bucket, &query).await?;
            objects.extend(page.contents);
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    /// The multipart uploads under way in a bucket (the first thousand).
    pub async fn uploads(&self, bucket: &str) -> Result<Vec<Upload>> {
        let page: UploadPage = self.get_xml(bucket, &[("uploads", "")]).await?;
        Ok(page.upload)
    }

    async fn get_xml<T: serde::de::DeserializeOwned>(&self, bucket: &str, query: &[(&str, &str)]) -> Result<T> {
        let response = self.simple(Method::GET, bucket, "", query, Bytes::new()).await?;
        expect_success(&response, &format!("listing {bucket}"))?;
        let xml = text(&response);
        quick_xml::de::from_str(&xml).with_context(|| format!("reading the listing {xml}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListPage {
    #[serde(default)]
    contents: Vec<Object>,
    next_continuation_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadPage {
    #[serde(default)]
    upload: Vec<Upload>,
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

fn header_text(response: &Response<Bytes>, name: header::HeaderName) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn expect_success(response: &Response<Bytes>, what: &str) -> Result<()> {
    ensure!(response.status().is_success(), "{what}: {} {}", response.status(), text(response));
    Ok(())
}

/// `/bucket/key?query`, every byte encoded that S3 does not sign as it is.
fn target(bucket: &str, key: &str, query: &[(&str, &str)]) -> String {
    let mut target = String::from("/");
    target.push_str(bucket);
    if !key.is_empty() {
        target.push('/');
        encode(&mut target, key, "-_.~/");
    }
    for (index, (name, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        encode(&mut target, name, "-_.~");
        target.push('=');
        encode(&mut target, value, "-_.~");
    }
    target
}

fn encode(target: &mut String, text: &str, kept: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(char::from(byte)) {
            target.push(char::from(byte));
        } else {
            write!(target, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_encoded_once() {
        assert_eq!(target("b", "", &[]), "/b");
        assert_eq!(target("b", "a b/c%d+é", &[]), "/b/a%20b/c%25d%2B%C3%A9");
        assert_eq!(target("b", "", &[("list-type", "2"), ("prefix", "x/y")]), "/b?list-type=2&prefix=x%2Fy");
    }

    #[test]
    fn access_hides_the_secret() {
        let access = Access {
            endpoint: "http://h".into(),
            access_key: "who".into(),
            secret_key: "hidden".into(),
            region: "r".into(),
        };
        assert_eq!(format!("{access:?}"), "who@http://h (r)");
    }
}
