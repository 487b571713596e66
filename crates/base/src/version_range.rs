//! Versions of the cluster's behaviour, as ranges that programs know.

use std::fmt;

/// Versions of the cluster's behaviour that a program knows, both ends included. They count up from 1, and have nothing to do with releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest that it still behaves as.
    pub oldest: u32,
    /// The newest that it can behave as.
    pub newest: u32,
}

impl VersionRange {
    /// What a program has said of itself. One from before there were such versions says nothing, and knows the first one.
    pub fn told(oldest: u32, newest: u32) -> VersionRange {
        VersionRange { oldest: oldest.max(1), newest: newest.max(1) }
    }

    /// Whether it knows that version.
    pub fn contains(self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl Default for VersionRange {
    /// Nothing but the first one.
    fn default() -> VersionRange {
        VersionRange { oldest: 1, newest: 1 }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{}", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_in() {
        let range = VersionRange::told(2, 4);
        assert_eq!([1, 2, 3, 4, 5].map(|version| range.contains(version)), [false, true, true, true, false]);
        assert_eq!((range.to_string(), VersionRange::told(3, 3).to_string()), ("2 to 4".to_owned(), "3".to_owned()));
    }

    #[test]
    fn who_says_nothing_knows_the_first_one() {
        assert_eq!(VersionRange::told(0, 0), VersionRange::default());
        assert!(VersionRange::default().contains(1) && !VersionRange::default().contains(2));
    }
}
