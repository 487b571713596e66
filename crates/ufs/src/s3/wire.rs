//! The XML of S3's answers and requests.

use super::encode;
use serde::Deserialize;

/// An error's body, which may also come with status 200.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorBody {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

/// ListObjectsV2.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListObjects {
    pub(super) encoding_type: Option<String>,
    pub(super) is_truncated: bool,
    pub(super) next_continuation_token: Option<String>,
    pub(super) contents: Vec<Contents>,
    pub(super) common_prefixes: Vec<CommonPrefix>,
}

/// One object of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Contents {
    pub(super) key: String,
    pub(super) size: u64,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
    pub(super) last_modified: String,
}

/// One group of keys of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CommonPrefix {
    pub(super) prefix: String,
}

/// CreateMultipartUpload.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Initiated {
    pub(super) upload_id: String,
}

/// CompleteMultipartUpload, CopyObject, UploadPartCopy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Made {
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

/// ListMultipartUploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListUploads {
    pub(super) encoding_type: Option<String>,
    pub(super) is_truncated: bool,
    pub(super) next_key_marker: Option<String>,
    pub(super) next_upload_id_marker: Option<String>,
    pub(super) upload: Vec<Upload>,
}

/// One unfinished upload.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) initiated: String,
}

/// DeleteObjects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Deletions {
    pub(super) deleted: Vec<Deleted>,
    pub(super) error: Vec<DeleteError>,
}

/// One key that is gone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Deleted {
    pub(super) key: String,
}

/// One key that could not be deleted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DeleteError {
    pub(super) key: String,
    pub(super) code: String,
    pub(super) message: String,
}

/// Reads an answer.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    quick_xml::de::from_str(text).map_err(|why| format!("the answer cannot be read: {why}"))
}

/// Whether an answer with status 200 is an error: its first element says so. Stores send spaces before it to keep the connection.
pub(super) fn is_error(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let mut rest = text.trim_start();
    if rest.starts_with("<?xml") {
        rest = rest.split_once("?>").map_or("", |(_, rest)| rest).trim_start();
    }
    rest.strip_prefix("<Error").is_some_and(|rest| rest.starts_with(['>', ' ', '/']))
}

/// The parts of an upload, to complete it: number, tag, CRC32C.
pub(super) fn complete(parts: &[(u32, &str, Option<&str>)]) -> String {
    let mut body = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (number, etag, crc32c) in parts {
        let etag = encode::xml(&encode::quoted(etag)).unwrap_or_default();
        body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"));
        if let Some(crc32c) = crc32c {
            body.push_str(&format!("<ChecksumCRC32C>{crc32c}</ChecksumCRC32C>"));
        }
        body.push_str("</Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

/// A key to delete, and the version that may go, already escaped.
pub(super) struct Deletion {
    pub(super) key: String,
    pub(super) etag: Option<String>,
}

/// The keys to delete.
pub(super) fn delete(deletions: &[Deletion]) -> String {
    let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for Deletion { key, etag } in deletions {
        body.push_str(&format!("<Object><Key>{key}</Key>"));
        if let Some(etag) = etag {
            body.push_str(&format!("<ETag>{etag}</ETag>"));
        }
        body.push_str("</Object>");
    }
    body.push_str("</Delete>");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_results() {
        assert!(is_error(b"  \n<?xml version=\"1.0\"?>\n <Error><Code>InternalError</Code></Error>"));
        assert!(is_error(b"<Error/>"));
        assert!(!is_error(b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"));
        assert!(!is_error(b"<Errors/>"));
        assert!(!is_error(b""));
    }

    #[test]
    fn listings_are_read() {
        let page: ListObjects = parse(
            b"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>\
              <Contents><Key>a</Key><Size>5</Size><ETag>&quot;t&quot;</ETag></Contents><Name>b</Name>\
              <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes><Contents><Key>z</Key></Contents>\
              <NextContinuationToken>n</NextContinuationToken></ListBucketResult>",
        )
        .expect("a page");
        assert!(page.is_truncated);
        assert_eq!(page.contents.len(), 2);
        assert_eq!((page.contents[0].size, page.contents[0].etag.as_str()), (5, "\"t\""));
        assert_eq!(page.common_prefixes[0].prefix, "p/");
    }
}
