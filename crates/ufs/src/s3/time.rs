//! The two ways in which S3 writes times.

use jiff::Timestamp;

/// `2026-11-22T10:00:00.123Z`, of listings.
pub(super) fn iso_ms(text: &str) -> Option<u64> {
    let time: Timestamp = text.trim().parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// `Sun, 22 Nov 2026 10:00:00 GMT`, of headers.
pub(super) fn http_ms(text: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(iso_ms("1970-01-01T00:00:01.500Z"), Some(1500));
        assert_eq!(iso_ms("1970-01-01T00:00:02Z"), Some(2000));
        assert_eq!(http_ms("Thu, 01 Jan 1970 00:00:03 GMT"), Some(3000));
        assert_eq!(http_ms("soon"), None);
    }
}
