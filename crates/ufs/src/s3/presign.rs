//! Giving others the right to read: a GET of one version of one object, signed in its query (AWS, "Authenticating Requests: Using Query
//! Parameters"), so that who has no keys can send it for a while. The condition on the version is among the signed headers: without it the store refuses.

use super::http::Http;
use super::{encode, meta};
use crate::failure::At;
use crate::{Expected, GrantedWay, HttpGrant, ReadGrant, UfsError, UfsResult};
use bytes::Bytes;
use forebay_base::ByteSize;
use http::{HeaderMap, HeaderValue, header};
use reqsign_aws_v4::Credential;
use reqsign_core::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::Duration;

/// The longest `ca_file` that goes along.
const AUTHORITIES_LEN_MAX: ByteSize = ByteSize::mib(1);

/// What S3 takes at most: seven days.
const LIFETIME_MAX_S: u64 = 7 * 24 * 3600;

/// The right to read a version of `object`, for `lifetime` or as long as the keys live.
pub(super) async fn read(
    http: &Http,
    at: At<'_>,
    object: &str,
    expected: &Expected,
    lifetime: Duration,
) -> UfsResult<ReadGrant> {
    let keys = http.keys().await.map_err(|none| at.fail(UfsError::Denied, none.why, none.hint))?;
    let lifetime = clamp(lifetime, keys.as_ref());
    let mut headers = HeaderMap::new();
    if meta::is_condition(&expected.tag)
        && let Ok(tag) = HeaderValue::from_str(&encode::quoted(&expected.tag.0))
    {
        headers.insert(header::IF_MATCH, tag);
    }
    let (url, headers) = match &keys {
        None => (http.config.url(Some(object)), headers),
        Some(keys) => sign(http, at, object, headers, keys, lifetime).await?,
    };
    // The host's name is the URL's.
    let headers = headers.iter().filter(|(name, _)| *name != header::HOST);
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let way = GrantedWay::Http(HttpGrant { url, headers, authorities: authorities(http, at).await? });
    let (store, key) = (http.config.uri.clone(), Bytes::copy_from_slice(at.key()));
    Ok(ReadGrant { store, key, expected: expected.clone(), lifetime, way })
}

/// The URL with its signature, and the headers that are part of it.
async fn sign(
    http: &Http,
    at: At<'_>,
    object: &str,
    headers: HeaderMap,
    keys: &Credential,
    lifetime: Duration,
) -> UfsResult<(String, HeaderMap)> {
    let built = http::Request::get(http.config.url(Some(object))).body(());
    let (mut parts, ()) = built.map_err(|why| at.invalid(why.to_string()))?.into_parts();
    parts.headers = headers;
    let signed = http.presign(&mut parts, keys, lifetime).await;
    signed.map_err(|why| at.fail(UfsError::Denied, why.to_string(), "check the credentials"))?;
    Ok((parts.uri.to_string(), parts.headers))
}

/// Whole seconds, one at least, and no more than the keys live.
fn clamp(lifetime: Duration, keys: Option<&Credential>) -> Duration {
    let ends = keys.and_then(|keys| keys.expires_in);
    let left = ends.map(|end| end.as_second().saturating_sub(Timestamp::now().as_second() + 1));
    let left = left.map_or(LIFETIME_MAX_S, |left| u64::try_from(left).unwrap_or(0));
    Duration::from_secs(lifetime.as_secs().min(left).clamp(1, LIFETIME_MAX_S))
}

/// The certificates in `ca_file`, for who does not have the file, where they are of use. Nothing else goes along: people keep private keys in such files.
async fn authorities(http: &Http, at: At<'_>) -> UfsResult<Bytes> {
    let Some(path) = http.config.ca_file.as_ref().filter(|_| http.config.endpoint.starts_with("https://")) else {
        return Ok(Bytes::new());
    };
    let bad = |why: String| {
        let detail = format!("option ca_file cannot be {:?}: {why}", path.display().to_string());
        at.fail(UfsError::Unavailable, detail, "name a readable file of certificates in PEM")
    };
    let read = tokio::fs::read(path).await.map_err(|why| bad(why.to_string()))?;
    if read.len() as u64 > AUTHORITIES_LEN_MAX.bytes() {
        return Err(bad(format!("it is longer than {AUTHORITIES_LEN_MAX}")));
    }
    certificates(&read).map(Bytes::from).ok_or_else(|| bad("no certificates can be read from it".to_owned()))
}

/// The sections of a PEM file that are certificates, as they are; none if there are none, or one has no end or holds something else.
fn certificates(pem: &[u8]) -> Option<Vec<u8>> {
    let (mut found, mut is_inside) = (Vec::new(), false);
    for line in pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        match line {
            b"-----BEGIN CERTIFICATE-----" if !is_inside => is_inside = true,
            b"-----END CERTIFICATE-----" if is_inside => {
                is_inside = false;
                found.extend_from_slice(line);
                found.push(b'\n');
            }
            other if is_inside && other.starts_with(b"-----") => return None,
            _ => {}
        }
        if is_inside {
            found.extend_from_slice(line);
            found.push(b'\n');
        }
    }
    let parsed: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&found).collect::<Result<_, _>>().ok()?;
    (!is_inside && !parsed.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::super::config::S3Config;
    use super::*;
    use crate::failure::Failures;
    use crate::{AccessKeys, CredentialSource, OpenOptions};
    use forebay_base::VersionTag;
    use reqsign_core::hash::{hex_hmac_sha256, hex_sha256, hmac_sha256};
    use std::collections::BTreeMap;

    /// The keys of AWS's examples.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const ID: &str = "AKIAIOSFODNN7EXAMPLE";

    /// A signature by the book, apart from the code that is tested: the algorithm of "Calculating a Signature" for a GET whose query, encoded and
    /// without the signature, and signed headers are given.
    fn by_the_book(path: &str, query: &BTreeMap<String, String>, headers: &BTreeMap<&str, &str>) -> String {
        let query_text: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let header_text: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names: Vec<&str> = headers.keys().copied().collect();
        let request =
            format!("GET\n{path}\n{}\n{header_text}\n{}\nUNSIGNED-PAYLOAD", query_text.join("&"), names.join(";"));
        let time = &query["X-Amz-Date"];
        let scope = query["X-Amz-Credential"].replace("%2F", "/");
        let scope = scope.split_once('/').expect("key and scope").1;
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex_sha256(request.as_bytes()));
        let mut key = format!("AWS4{SECRET}").into_bytes();
        for part in scope.split('/') {
            key = hmac_sha256(&key, part.as_bytes());
        }
        hex_hmac_sha256(&key, text.as_bytes())
    }

    fn store(bucket: &str, options: &[(&str, &str)], token: Option<&str>) -> Http {
        let keys = AccessKeys {
            access_key_id: ID.into(),
            secret_access_key: SECRET.into(),
            session_token: token.map(str::to_owned),
        };
        let credentials = CredentialSource::Keys(keys);
        let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let options = OpenOptions { options, credentials };
        let config = S3Config::read(&format!("s3://{bucket}"), bucket, &options, &|_| None).expect("options");
        Http::new(config, &options.credentials).expect("a store")
    }

    async fn granted(http: &Http, key: &str, tag: &str, lifetime: Duration) -> (HttpGrant, Duration) {
        let failures = Failures::new("s3://examplebucket");
        let expected = Expected { tag: VersionTag(tag.into()), length: 1 };
        let grant = read(http, failures.at("grant", key.as_bytes()), key, &expected, lifetime).await.expect("a grant");
        match grant.way {
            GrantedWay::Http(http) => (http, grant.lifetime),
            GrantedWay::Directory(_) => panic!("S3 is no directory"),
        }
    }

    fn parts_of(url: &str) -> (String, BTreeMap<String, String>) {
        let (address, query) = url.split_once('?').expect("a query");
        let path = address.split_once("://").expect("a scheme").1.split_once('/').expect("a path").1;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        (format!("/{path}"), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The example of AWS's page "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
    #[test]
    fn the_book_is_read_right() {
        let query = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"),
            ("X-Amz-Date", "20130524T000000Z"),
            ("X-Amz-Expires", "86400"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let headers = BTreeMap::from([("host", "examplebucket.s3.amazonaws.com")]);
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert_eq!(by_the_book("/test.txt", &query, &headers), signature);
    }

    #[tokio::test]
    async fn a_grant_is_signed_by_the_book_with_its_version() {
        let aws = [("endpoint", "https://s3.amazonaws.com"), ("path_style", "false")];
        let own = [("endpoint", "http://127.0.0.1:9000")];
        let cases = [
            (&aws[..], "test.txt", "examplebucket.s3.amazonaws.com", "/test.txt", None),
            (&own[..], "a b/é+?", "127.0.0.1:9000", "/examplebucket/a%20b/%C3%A9%2B%3F", None),
            (&aws[..], "k", "examplebucket.s3.amazonaws.com", "/k", Some("a token/with+signs==")),
        ];
        for (options, key, host, path, token) in cases {
            let http = store("examplebucket", options, token);
            let (grant, lifetime) = granted(&http, key, "abc-2", Duration::from_secs(300)).await;
            assert_eq!(lifetime, Duration::from_secs(300));
            assert_eq!(grant.headers, [("if-match".to_owned(), "\"abc-2\"".to_owned())]);
            let (found, mut query) = parts_of(&grant.url);
            assert_eq!(found, path);
            let signature = query.remove("X-Amz-Signature").expect("a signature");
            let headers = BTreeMap::from([("host", host), ("if-match", "\"abc-2\"")]);
            assert_eq!(signature, by_the_book(path, &query, &headers), "{key}");
            assert_eq!((&query["X-Amz-Expires"][..], &query["X-Amz-SignedHeaders"][..]), ("300", "host%3Bif-match"));
            let sent = query.get("X-Amz-Security-Token").map(String::as_str);
            assert_eq!(sent, token.map(|_| "a%20token%2Fwith%2Bsigns%3D%3D"));
            assert!(!grant.url.contains(SECRET));
        }
    }

    #[tokio::test]
    async fn a_version_that_the_store_has_no_name_for_is_no_condition() {
        let http = store("b", &[("endpoint", "http://127.0.0.1:9000")], None);
        for tag in ["~17-4", "W/\"abc\""] {
            let (grant, _) = granted(&http, "k", tag, Duration::from_secs(5)).await;
            assert_eq!(grant.headers, [], "{tag}");
        }
    }

    /// `ca_file` of a server is often its whole chain, with the key.
    #[tokio::test]
    async fn certificates_alone_go_along() {
        let section = |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
        let (one, two) = (section("CERTIFICATE", "b25l"), section("CERTIFICATE", "dHdv"));
        let key = section("PRIVATE KEY", "c2VjcmV0");
        let pem = format!("a comment\n{one}{key}\r\n{two}{key}the end");
        let found = certificates(pem.as_bytes()).expect("two certificates");
        assert_eq!(String::from_utf8_lossy(&found), format!("{one}{two}"));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).expect("a file");
        let options = [("endpoint", "http://127.0.0.1:9"), ("ca_file", path.to_str().expect("text"))];
        let (grant, _) = granted(&store("b", &options, None), "k", "t", Duration::from_secs(60)).await;
        assert!(grant.authorities.is_empty(), "nobody needs them without TLS");
    }

    #[test]
    fn what_holds_no_certificate_is_refused() {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for wrong in
            ["", "b25l", key, &format!("{begin}b25l"), &format!("{begin}{key}{end}"), &format!("{begin}?{end}")]
        {
            assert_eq!(certificates(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert!(certificates(format!("{begin}b25l\n{end}").as_bytes()).is_some());
    }

    #[test]
    fn a_grant_does_not_outlive_the_keys() {
        let keys = |lives: Option<u64>| Credential {
            access_key_id: ID.into(),
            secret_access_key: SECRET.into(),
            session_token: Some("t".into()),
            expires_in: lives.map(|seconds| Timestamp::now() + Duration::from_secs(seconds)),
        };
        let five = Duration::from_secs(300);
        assert_eq!(clamp(five, None), five);
        assert_eq!(clamp(five, Some(&keys(None))), five);
        assert_eq!(clamp(five, Some(&keys(Some(3600)))), five);
        let short = clamp(five, Some(&keys(Some(60))));
        assert!((55..60).contains(&short.as_secs()), "{short:?}");
        assert_eq!(clamp(five, Some(&keys(Some(0)))), Duration::from_secs(1));
        assert_eq!(clamp(Duration::from_millis(10), None), Duration::from_secs(1));
        assert_eq!(clamp(Duration::from_secs(1 << 40), None), Duration::from_secs(604_800));
    }
}
