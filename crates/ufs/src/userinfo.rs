//! Keys that users write where others have user and password, `s3://KEY:SECRET@bucket`: no store is reached so, and no message shows them.

use std::borrow::Cow;

/// The URI, or what follows its `://`, for messages: with `***` in place of what stands before the `@` of its authority. A secret may have slashes, so that all up
/// to the last `@` is hidden as soon as the first name is none of a bucket or host.
pub fn hidden(uri: &str) -> Cow<'_, str> {
    let start = uri.find("://").map_or(0, |at| at + 3);
    let rest = &uri[start..];
    let first = rest.split('/').next().unwrap_or_default();
    match rest.rfind('@') {
        Some(at) if first.contains([':', '@']) => Cow::Owned(format!("{}***{}", &uri[..start], &rest[at..])),
        _ => Cow::Borrowed(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_and_nothing_else() {
        let check = |uri, shown: &str| assert_eq!(hidden(uri), shown, "{uri}");
        check("s3://KEY:SECRET@other", "s3://***@other");
        check("s3://KEY:SEC/RE@T@other/prefix", "s3://***@other/prefix");
        check("KEY@host:9000", "***@host:9000");
        check("http://KEY:SECRET@host", "http://***@host");
        for uri in ["s3://bucket/a@b", "file:///data/a@b:c", "http://host:9000", "localhost:9000", "", "/data", "s3://"]
        {
            check(uri, uri);
        }
    }
}
