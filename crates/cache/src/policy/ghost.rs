//! A memory of what was evicted lately: fingerprints, 4 bytes each, the oldest of a bucket forgotten first.

const WAYS: usize = 4;
const BUCKETS_MIN: usize = 64;
/// At most 64 MiB: 2^22 buckets of 16 bytes.
const BUCKETS_MAX: usize = 1 << 22;

/// A set of fingerprints of bounded size. 0 stands for "none", so a fingerprint of 0 is never found.
#[derive(Default)]
pub(crate) struct Ghost {
    buckets: Vec<[u32; WAYS]>,
}

impl Ghost {
    /// Makes room to remember as many as `live` fingerprints.
    pub(crate) fn grow_for(&mut self, live: usize) {
        let wanted = (live / WAYS).next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
        if wanted <= self.buckets.len() {
            return;
        }
        let old = std::mem::replace(&mut self.buckets, vec![[0; WAYS]; wanted]);
        for fingerprint in old.iter().flat_map(|bucket| bucket.iter().rev()) {
            self.insert(*fingerprint);
        }
    }

    fn bucket(&mut self, fingerprint: u32) -> Option<&mut [u32; WAYS]> {
        let mask = self.buckets.len().checked_sub(1)?;
        Some(&mut self.buckets[fingerprint as usize & mask])
    }

    pub(crate) fn insert(&mut self, fingerprint: u32) {
        if fingerprint == 0 {
            return;
        }
        if let Some(bucket) = self.bucket(fingerprint) {
            bucket.rotate_right(1);
            bucket[0] = fingerprint;
        }
    }

    /// Whether the fingerprint was there; it is not any more.
    pub(crate) fn take(&mut self, fingerprint: u32) -> bool {
        let Some(bucket) = self.bucket(fingerprint).filter(|_| fingerprint != 0) else {
            return false;
        };
        let found = bucket.iter_mut().find(|known| **known == fingerprint);
        found.is_some_and(|known| {
            *known = 0;
            true
        })
    }
}
