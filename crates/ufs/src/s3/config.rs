//! What a mount says about an S3 store: URI, options, environment.

use crate::open::{OpenOptions, check_names, invalid};
use crate::{UfsResult, key, userinfo};
use forebay_base::{ByteSize, HumanDuration};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Every option of `s3://`, for the check of names. Their meaning stands at the fields of [`S3Config`].
const OPTIONS: &[&str] = &[
    "ca_file",
    "checksums",
    "conditional_writes",
    "connect_timeout",
    "copy_part_size",
    "deadline",
    "endpoint",
    "max_reads",
    "max_requests",
    "path_style",
    "region",
    "stall_timeout",
];

/// The longest key that S3 takes, in bytes.
pub(super) const KEY_LEN_MAX: usize = 1024;

/// How the bucket is named in requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    Virtual,
}

/// A store, before it is opened.
#[derive(Clone, Debug)]
pub(super) struct S3Config {
    pub(super) uri: String,
    pub(super) bucket: String,
    /// What all keys begin with: empty, or names that end with a slash.
    pub(super) prefix: String,
    /// `endpoint`: scheme, host and port, without a path. Default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or AWS's own of the region.
    pub(super) endpoint: String,
    /// `region`. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, `us-east-1`.
    pub(super) region: String,
    /// `path_style`: `true` for `https://endpoint/bucket`, `false` for `https://bucket.endpoint`. Default: `true` with an endpoint of your own or dots
    /// in the bucket's name.
    pub(super) addressing: Addressing,
    /// `ca_file`: certificates in PEM that are trusted besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// `checksums`: whether writes carry a CRC32C that the store checks; off for stores that refuse it. Default: `true`.
    pub(super) checksums: bool,
    /// `conditional_writes`: whether the store honours If-Match and If-None-Match of writes. Default: `true`.
    pub(super) conditional_writes: bool,
    /// `connect_timeout` of one attempt. Default: 5 s.
    pub(super) connect_timeout: Duration,
    /// `stall_timeout`: how long an answer may stay silent. Default: 15 s.
    pub(super) stall_timeout: Duration,
    /// `deadline` of one call with all its attempts, besides the time that its body takes. Default: 20 s,
    /// shorter than a client waits for a master, so that the master can say what is wrong.
    pub(super) deadline: Duration,
    /// `max_requests` at the same time, reads aside. More wait. Default: 128.
    pub(super) requests_max: usize,
    /// `max_reads`: streams open at the same time. More wait. Default: 128.
    pub(super) reads_max: usize,
    /// `copy_part_size`: longer objects are copied in parts of this size. Default: 1 GiB, at most 5 GiB.
    pub(super) copy_part_len: u64,
}

/// Reads options by name and gives clear errors.
struct Reader<'a> {
    uri: &'a str,
    options: &'a OpenOptions,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.options.options.get(name).map(String::as_str)
    }

    fn parse<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> UfsResult<T> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|why| invalid(self.uri, format!("option {name} cannot be {text:?}"), format!("{why}"))),
        }
    }

    fn flag(&self, name: &str, default: bool) -> UfsResult<bool> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().map_err(|_| self.bad(name, "true or false"))
    }

    /// How many at the same time.
    fn number(&self, name: &str, default: usize) -> UfsResult<usize> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=100_000).contains(number));
        number.ok_or_else(|| self.bad(name, "1 to 100000"))
    }

    fn duration(&self, name: &str, default: Duration) -> UfsResult<Duration> {
        let value: HumanDuration = self.parse(name, HumanDuration(default))?;
        if value.0.is_zero() {
            return Err(self.bad(name, "a duration above zero, e.g. 15s"));
        }
        Ok(value.0)
    }

    fn bad(&self, name: &str, allowed: &str) -> crate::UfsError {
        let text = self.text(name).unwrap_or_default();
        invalid(self.uri, format!("option {name} cannot be {text:?}"), format!("allowed: {allowed}"))
    }
}

impl S3Config {
    /// Reads `s3://rest` with its options; `environment` gives the values of variables.
    pub(super) fn read(
        uri: &str,
        rest: &str,
        options: &OpenOptions,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> UfsResult<S3Config> {
        check_names(uri, options, OPTIONS)?;
        let reader = Reader { uri, options };
        let (bucket, prefix) = split(uri, rest)?;
        let text = |name: &str, variables: &[&str]| {
            reader.text(name).map(str::to_owned).or_else(|| variables.iter().find_map(|variable| environment(variable)))
        };
        let region = text("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
        let given = text("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        let of_aws = given.is_none();
        let endpoint = given.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let copy_part: ByteSize = reader.parse("copy_part_size", ByteSize(1 << 30))?;
        if !(5 << 20..=5 << 30).contains(&copy_part.0) {
            return Err(reader.bad("copy_part_size", "5MiB to 5GiB"));
        }
        Ok(S3Config {
            uri: uri.trim_end_matches('/').to_owned(),
            addressing: match reader.flag("path_style", !of_aws || bucket.contains('.'))? {
                true => Addressing::Path,
                false => Addressing::Virtual,
            },
            bucket,
            prefix,
            endpoint: check_endpoint(uri, &endpoint)?,
            region,
            ca_file: reader.text("ca_file").map(PathBuf::from),
            checksums: reader.flag("checksums", true)?,
            conditional_writes: reader.flag("conditional_writes", true)?,
            connect_timeout: reader.duration("connect_timeout", Duration::from_secs(5))?,
            stall_timeout: reader.duration("stall_timeout", Duration::from_secs(15))?,
            deadline: reader.duration("deadline", Duration::from_secs(20))?,
            requests_max: reader.number("max_requests", 128)?,
            reads_max: reader.number("max_reads", 128)?,
            copy_part_len: copy_part.0,
        })
    }

    /// What a request for a key of the bucket goes to; `None` for the bucket itself.
    pub(super) fn url(&self, key: Option<&str>) -> String {
        let key = key.map(super::encode::path).unwrap_or_default();
        match self.addressing {
            Addressing::Path => format!("{}/{}/{key}", self.endpoint, self.bucket),
            Addressing::Virtual => {
                let (scheme, host) = self.endpoint.split_once("://").unwrap_or(("https", &self.endpoint));
                format!("{scheme}://{}.{host}/{key}", self.bucket)
            }
        }
    }
}

fn split(uri: &str, rest: &str) -> UfsResult<(String, String)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if userinfo::hidden(rest) != rest {
        return Err(invalid(
            uri,
            "it has keys in it",
            "write it as s3://bucket/prefix; keys come from the environment, a profile (--profile), or are kept encrypted (--store-credentials)",
        ));
    }
    if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(fine) {
        return Err(invalid(
            uri,
            format!("{bucket:?} cannot be a bucket"),
            "write it as s3://bucket/prefix; a bucket has letters, digits, '.', '-' and '_'",
        ));
    }
    let prefix = prefix.trim_matches('/');
    if let Err(why) = key::check(prefix.as_bytes()) {
        return Err(invalid(uri, format!("its prefix cannot be a directory: {why}"), ""));
    }
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok((bucket.to_owned(), prefix))
}

fn check_endpoint(uri: &str, endpoint: &str) -> UfsResult<String> {
    let trimmed = endpoint.trim_end_matches('/');
    let authority = trimmed.strip_prefix("https://").or_else(|| trimmed.strip_prefix("http://"));
    let fine = authority.is_some_and(|authority| {
        !authority.is_empty()
            && !authority.contains(['/', '?', '#', '@'])
            && authority.parse::<http::uri::Authority>().is_ok()
    });
    if !fine {
        return Err(invalid(
            uri,
            format!("option endpoint cannot be {:?}", userinfo::hidden(endpoint)),
            "write it as https://host or http://host:port, without a path",
        ));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, options: &[(&str, &str)]) -> UfsResult<S3Config> {
        let options = OpenOptions {
            options: options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            ..OpenOptions::default()
        };
        let rest = uri.strip_prefix("s3://").expect("s3");
        S3Config::read(uri, rest, &options, &|name| (name == "AWS_DEFAULT_REGION").then(|| "eu-west-3".to_owned()))
    }

    fn check_url(uri: &str, options: &[(&str, &str)], key: &str, url: &str) {
        let config = read(uri, options).expect(uri);
        assert_eq!(config.url(Some(&format!("{}{key}", config.prefix))), url);
    }

    #[test]
    fn urls_follow_endpoint_and_addressing() {
        check_url("s3://b", &[], "k", "https://b.s3.eu-west-3.amazonaws.com/k");
        check_url("s3://b/p/q/", &[("region", "us-east-2")], "k", "https://b.s3.us-east-2.amazonaws.com/p/q/k");
        check_url("s3://b.c", &[], "k", "https://s3.eu-west-3.amazonaws.com/b.c/k");
        check_url("s3://b", &[("endpoint", "http://h:9000/")], "a b/é", "http://h:9000/b/a%20b/%C3%A9");
        let options = [("endpoint", "http://h:9000"), ("path_style", "false")];
        check_url("s3://b", &options, "k", "http://b.h:9000/k");
    }

    #[test]
    fn bad_values_are_refused() {
        let refused = [
            ("s3://", [("region", "x")], "cannot be a bucket"),
            ("s3://b/a//c", [("region", "x")], "prefix"),
            ("s3://b", [("endpoint", "localhost:9000")], "option endpoint cannot be \"localhost:9000\""),
            ("s3://b", [("endpoint", "http://h/path")], "option endpoint"),
            ("s3://b", [("path_style", "host")], "option path_style cannot be \"host\""),
            ("s3://b", [("deadline", "soon")], "option deadline cannot be \"soon\""),
            ("s3://b", [("max_reads", "0")], "option max_reads"),
            ("s3://b", [("checksums", "maybe")], "option checksums"),
            ("s3://b", [("regoin", "x")], "unknown option \"regoin\""),
        ];
        for (uri, options, detail) in refused {
            let error = read(uri, &options).expect_err(detail);
            assert!(error.to_string().contains(detail), "{error}");
        }
        for (uri, endpoint) in [
            ("s3://KEY:SECRET@b", "http://h"),
            ("s3://KEY:SEC/RET@b", "http://h"),
            ("s3://b", "http://KEY:SECRET@h"),
            ("s3://b", "KEY:SEC/RET@h"),
        ] {
            let error = read(uri, &[("endpoint", endpoint)]).expect_err(uri);
            let said = format!("{error}; {}; {error:?}", error.hint());
            assert!(!["KEY:", "SECRET", "SEC/RET"].iter().any(|secret| said.contains(secret)), "{said}");
        }
        let error = read("s3://b", &[("regoin", "x")]).expect_err("regoin");
        assert_eq!(error.hint(), "did you mean region?");
    }
}
