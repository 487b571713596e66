//! Credentials at rest: sealed with XChaCha20-Poly1305 under a key that lies beside the data, never in the log in the clear.
//!
//! A sealed text is `version (1) ‖ nonce ‖ ciphertext and tag`. The mount's path is bound to it as associated data, so that a
//! sealed secret cannot be moved to another mount.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of the key.
pub(crate) const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;
const VERSION: u8 = 1;

/// Secrets of one mount by name, e.g. `secret_access_key`. Prints nothing of their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets(pub BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(|name| format!("{name}: redacted"))).finish()
    }
}

/// Why a sealed text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stored credentials of mount {mount} cannot be decrypted: {why}; give them again with forebay mount update, or restore the file secret.key of the masters' data directory"
)]
pub(crate) struct UnsealError {
    mount: String,
    why: &'static str,
}

/// The key that seals. Prints nothing of itself.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

impl Sealer {
    /// Seals with `key`.
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Sealer {
        Sealer(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    /// Seals `secrets` for the mount at `mount`. The nonce of 192 bits is random, so no count needs to be kept.
    pub(crate) fn seal(&self, mount: &[u8], secrets: &Secrets) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: &encode(secrets), aad: mount };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).expect("only messages of 256 GiB and more cannot be sealed");
        [&[VERSION][..], &nonce, &sealed].concat()
    }

    /// Opens what [`Sealer::seal`] made for the same mount.
    pub(crate) fn unseal(&self, mount: &[u8], sealed: &[u8]) -> Result<Secrets, UnsealError> {
        let error = |why| UnsealError { mount: String::from_utf8_lossy(mount).into_owned(), why };
        let body = match sealed.split_first() {
            Some((&VERSION, body)) => body,
            Some(_) => return Err(error("they are of an unknown format")),
            None => return Err(error("they are empty")),
        };
        let (nonce, text) = body.split_first_chunk::<NONCE_LEN>().ok_or_else(|| error("they are cut short"))?;
        let payload = Payload { msg: text, aad: mount };
        let plain = self
            .0
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| error("they were sealed with another key or changed"))?;
        decode(&plain).ok_or_else(|| error("what they hold is of an unknown form"))
    }
}

/// Names and values, each after its length as a 32-bit number.
fn encode(secrets: &Secrets) -> Vec<u8> {
    let mut out = Vec::new();
    for text in secrets.0.iter().flat_map(|(name, value)| [name, value]) {
        let len = u32::try_from(text.len()).expect("a secret is shorter than a message, 4 MiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn decode(mut bytes: &[u8]) -> Option<Secrets> {
    let mut next = || -> Option<Option<String>> {
        if bytes.is_empty() {
            return Some(None);
        }
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        bytes = rest;
        Some(Some(String::from_utf8(text.to_vec()).ok()?))
    };
    let mut secrets = BTreeMap::new();
    while let Some(name) = next()? {
        secrets.insert(name, next()??);
    }
    Some(Secrets(secrets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets(BTreeMap::from([
            ("access_key_id".to_owned(), "AKIAEXAMPLE".to_owned()),
            ("secret_access_key".to_owned(), "hunter2".to_owned()),
        ]))
    }

    #[test]
    fn returns_what_was_sealed_for_the_same_mount_only() {
        let sealer = Sealer::new(&[7; KEY_LEN]);
        let sealed = sealer.seal(b"/lake", &secrets());
        assert_eq!(sealer.unseal(b"/lake", &sealed), Ok(secrets()));
        assert!(sealer.unseal(b"/other", &sealed).is_err());
        assert!(Sealer::new(&[8; KEY_LEN]).unseal(b"/lake", &sealed).is_err());
        assert_ne!(sealed, sealer.seal(b"/lake", &secrets()));
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    }

    #[test]
    fn no_changed_byte_passes() {
        let sealer = Sealer::new(&[7; KEY_LEN]);
        let sealed = sealer.seal(b"/lake", &secrets());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.unseal(b"/lake", &changed).is_err(), "byte {at}");
            assert!(sealer.unseal(b"/lake", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    /// The bytes of the hex dump under the heading `name` of docs/formats/data-directories.md.
    fn example(name: &str) -> Vec<u8> {
        let page = include_str!("../../../docs/formats/data-directories.md");
        let start = page.find(&format!("### {name}\n")).expect("the page has the example");
        let dump = page[start..].split("```").nth(1).expect("an example is a hex dump");
        let lines = dump.lines().filter_map(|line| line.split_once(": "));
        let bytes = lines.flat_map(|(_, bytes)| bytes.split_whitespace());
        bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    #[test]
    fn sealed_credentials_are_as_the_page_says() {
        let sealer = Sealer::new(&std::array::from_fn(|at| at as u8));
        let named = [("access_key_id", "AKIAEXAMPLE"), ("secret_access_key", "wJalrXUtnFEMI")];
        let secrets = Secrets(named.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(encode(&secrets), example("What is sealed"));
        assert_eq!(sealer.unseal(b"/lake", &example("Sealed")), Ok(secrets));
        assert!(sealer.unseal(b"/lakes", &example("Sealed")).is_err());
    }

    #[test]
    fn prints_no_value() {
        let text = format!("{:?} {:?}", secrets(), Sealer::new(&[7; KEY_LEN]));
        assert!(text.contains("secret_access_key"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
