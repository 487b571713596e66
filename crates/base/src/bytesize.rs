//! Byte sizes as people write them: `512MiB`, `1.5 GB`, `4096`.

use std::{fmt, str::FromStr};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A text that is no byte size that we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseByteSizeError {
    /// Something else.
    #[error("{0:?} is not a byte size: write a number and a unit (KB to PB, KiB to PiB), as in 512MiB, 1.5GB or 4096")]
    NoSize(String),
    /// Beyond what 64 bits hold, or, of a fraction, what can be told exactly.
    #[error("{0:?} is too large a byte size: less than 16384PiB fit, with a fraction less than 8PiB")]
    TooLarge(String),
}

/// Units by name, the longest first. Binary units are powers of 1024, decimal ones of 1000.
const UNITS: [(&str, u64); 15] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("b", 1),
];

impl ByteSize {
    /// `n` KiB.
    pub const fn kib(n: u64) -> ByteSize {
        ByteSize(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> ByteSize {
        ByteSize(n << 20)
    }

    /// `n` GiB.
    pub const fn gib(n: u64) -> ByteSize {
        ByteSize(n << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseByteSizeError::NoSize(text.to_owned());
        let too_large = || ParseByteSizeError::TooLarge(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
            .unwrap_or((lower.as_str(), 1));
        if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
            let bytes = number.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor));
            return bytes.map(ByteSize).ok_or_else(too_large);
        }
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let value = if plain {
            number.parse::<f64>().map_err(|_| error())? * factor as f64
        } else {
            return Err(error());
        };
        // 2^53: above it a fraction cannot be told apart any more.
        if value >= 9_007_199_254_740_992.0 {
            return Err(too_large());
        }
        if value.fract() != 0.0 && factor == 1 {
            return Err(error());
        }
        Ok(ByteSize(value.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    /// Exact when the size is a whole number of a unit (`64MiB`), else two decimals (`1.37GiB`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = match self.0 {
            n if n >= 1 << 50 => ("PiB", 1u64 << 50),
            n if n >= 1 << 40 => ("TiB", 1 << 40),
            n if n >= 1 << 30 => ("GiB", 1 << 30),
            n if n >= 1 << 20 => ("MiB", 1 << 20),
            n if n >= 1 << 10 => ("KiB", 1 << 10),
            n => return f.pad(&format!("{n}B")),
        };
        match self.0 % factor {
            0 => f.pad(&format!("{}{unit}", self.0 / factor)),
            _ => f.pad(&format!("{:.2}{unit}", self.0 as f64 / factor as f64)),
        }
    }
}

impl ByteSize {
    /// The same size when it is read back, in the largest binary unit that divides it (`1536MiB`), else in bytes (`1500000000B`).
    fn exact(self) -> String {
        let units = [("PiB", 1u64 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let divides = |&(_, factor): &(&str, u64)| self.0 > 0 && self.0.is_multiple_of(factor);
        let (unit, factor) = units.into_iter().find(divides).unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / factor)
    }
}

impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.exact())
    }
}

impl<'de> serde::Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte size such as 512MiB")
            }

            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(n))
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<ByteSize, E> {
                u64::try_from(n).map(ByteSize).map_err(|_| E::custom(ParseByteSizeError::NoSize(n.to_string())))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse::<ByteSize>().ok().map(ByteSize::bytes), expected, "{text}");
    }

    #[test]
    fn reads_what_people_write() {
        check("0", Some(0));
        check("4096", Some(4096));
        check("512MiB", Some(512 << 20));
        check("512 mib", Some(512 << 20));
        check("1.5GB", Some(1_500_000_000));
        check("0.5KiB", Some(512));
        check("64m", Some(64 << 20));
        check("10b", Some(10));
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "MiB", "-1", "1.5", "1e3", "12 parsecs", "99999999999PiB", "18446744073709551616", "nan", "inf"]
        {
            check(text, None);
        }
        for text in ["99999999999PiB", "18446744073709551616", "9.5PiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(ParseByteSizeError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn what_is_stored_is_exact() {
        for (size, text) in [
            (0, "0B"),
            (1_500_000_000, "1500000000B"),
            (1536 << 20, "1536MiB"),
            (64 << 20, "64MiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(ByteSize(size).exact(), text);
            check(text, Some(size));
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for size in [0, 1, 1023, 1024, 64 << 20, 3 << 30, 1 << 50] {
            check(&ByteSize(size).to_string(), Some(size));
        }
        assert_eq!(ByteSize(1_500_000_000).to_string(), "1.40GiB");
    }
}
