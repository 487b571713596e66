//! Keys: the rules of names, checked at the boundary.

use forebay_base::Name;

/// Why bytes are no key, or nothing when they are one. The empty key, the root, is one.
pub(crate) fn check(key: &[u8]) -> Result<(), String> {
    if key.is_empty() {
        return Ok(());
    }
    for name in key.split(|byte| *byte == b'/') {
        if !is_name(name) {
            return Err(format!(
                "{:?} cannot be a name in a key: it may not be empty, '.' or '..', hold a NUL byte or be longer than 255 bytes",
                String::from_utf8_lossy(name)
            ));
        }
    }
    Ok(())
}

/// Whether bytes can be one name of a tree.
pub(crate) fn is_name(name: &[u8]) -> bool {
    Name::new(bytes::Bytes::copy_from_slice(name)).is_ok()
}

/// The key of an entry of a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut key = directory.to_vec();
    if !key.is_empty() {
        key.push(b'/');
    }
    key.extend_from_slice(name);
    key
}

/// What every key below a directory begins with: nothing for the root, else its key and a slash.
pub(crate) fn prefix_of(directory: &[u8]) -> Vec<u8> {
    let mut prefix = directory.to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_between_slashes() {
        for good in ["", "a", "a/b c/é%", "...", "a/.hidden"] {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
        assert!(check(&[b'a', b'/', 0xff]).is_ok());
        let long = "x".repeat(256);
        for bad in ["/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\0b", &long] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
