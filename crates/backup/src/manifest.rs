//! What a backup consists of, as it is stored: one line that names the format and the checksum of the rest, and the rest, JSON.

use crate::{BackupError, Result};
use forebay_base::TimestampMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const MAGIC: &str = "forebay-backup ";

/// Most files of a backup. A state of a billion inodes has some thousands.
const FILES_MAX: usize = 100_000;
/// Most bytes of a manifest: those of 100,000 files have some 13 MiB.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Terms, entries and inodes up to which a manifest is believed: what is added to them on the way must not overflow.
const NUMBER_MAX: u64 = 1 << 62;
/// The end of the year 9999, in milliseconds since 1970-01-01 UTC: later times have no name.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// Names a backup: when it was made, in UTC to the millisecond, and eight random hexadecimal digits. Sorted by name, backups are sorted by the clock of who made them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(String);

impl BackupId {
    /// Of one that is made now.
    pub fn draw(now: TimestampMs) -> BackupId {
        let time = i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y%m%dT%H%M%S.%3fZ");
        BackupId(format!("{time}-{:08x}", rand::random::<u32>()))
    }

    /// As somebody wrote it, or a store names it.
    pub fn parse(text: &str) -> Option<BackupId> {
        let (time, random) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (date, of_day) = time.strip_suffix('Z')?.split_once('T')?;
        let (seconds, ms) = of_day.split_once('.')?;
        let is_time =
            [(date, 8), (seconds, 6), (ms, 3)].iter().all(|(text, length)| text.len() == *length && digits(text));
        let is_random = random.len() == 8 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_time && is_random).then(|| BackupId(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which one it is.
    pub id: BackupId,
    /// The cluster that it is of: 32 hexadecimal digits.
    pub cluster: String,
    /// When it was made, by the masters' clock, in milliseconds since 1970-01-01 UTC.
    pub created_ms: u64,
    /// The version of Forebay that made it.
    pub version: String,
    /// Of the last entry of the log that it has: the term.
    pub term: u64,
    /// Of the last entry of the log that it has: the index.
    pub index: u64,
    /// Files and directories of the namespace.
    pub inodes: u64,
    /// By which the key that seals stored credentials is known again: the begin of a hash of it. The key is not in the backup.
    pub secret_key: String,
    /// The files of the state's store.
    pub files: Vec<BackupFile>,
}

/// One file of the state's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its name there.
    pub name: String,
    /// Its bytes.
    pub length: u64,
    /// Their SHA-256, 64 hexadecimal digits: under this name they lie in the target.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = serde_json::to_vec_pretty(self).expect("numbers and strings always serialize");
        body.push(b'\n');
        let mut out = format!("{MAGIC}{FORMAT} {}\n", hex(&Sha256::digest(&body))).into_bytes();
        out.extend_from_slice(&body);
        out
    }

    /// Reads what [`Manifest::encode`] wrote for the backup `id`. Names of files are safe to use, and no name comes twice.
    pub fn decode(id: &BackupId, bytes: &[u8]) -> Result<Manifest> {
        let damaged = |what: &str| BackupError::damaged(format!("the manifest of backup {id} is damaged: {what}"));
        let line_end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let (line, body) = (&bytes[..line_end], &bytes[line_end + 1..]);
        let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(MAGIC));
        let (format, sum) =
            line.and_then(|line| line.split_once(' ')).ok_or_else(|| damaged("its first line is another"))?;
        match format.parse() {
            Ok(FORMAT) => {}
            Ok(found) if found > FORMAT => return Err(BackupError::Newer { id: id.to_string(), found, known: FORMAT }),
            _ => return Err(damaged("its format is no number")),
        }
        if sum != hex(&Sha256::digest(body)) {
            return Err(damaged("its bytes do not match their checksum"));
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
        match &manifest.id == id
            && is_cluster(&manifest.cluster)
            && manifest.has_good_files()
            && manifest.has_good_numbers()
        {
            true => Ok(manifest),
            false => Err(damaged("it does not name what it should")),
        }
    }

    /// None so large that it leads to an overflow: the checksum is no proof of who wrote it.
    fn has_good_numbers(&self) -> bool {
        let bytes = self.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
        [self.term, self.index, self.inodes].iter().all(|number| *number <= NUMBER_MAX)
            && self.created_ms <= TIME_MS_MAX
            && bytes.is_some_and(|bytes| bytes <= NUMBER_MAX)
    }

    fn has_good_files(&self) -> bool {
        let plain = |name: &str| Path::new(name).file_name().and_then(|last| last.to_str()) == Some(name);
        let names: BTreeSet<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let fine = |file: &BackupFile| plain(&file.name) && is_sha256(&file.sha256);
        !self.files.is_empty()
            && self.files.len() <= FILES_MAX
            && names.len() == self.files.len()
            && self.files.iter().all(fine)
    }
}

/// Whether a name is that of a cluster.
pub(crate) fn is_cluster(name: &str) -> bool {
    name.len() == 32 && is_hex(name)
}

/// Whether a name is that of a file's content.
pub(crate) fn is_sha256(name: &str) -> bool {
    name.len() == 64 && is_hex(name)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The block of this name in docs/formats/backup.md.
    fn block(name: &str) -> &'static str {
        let page = include_str!("../../../docs/formats/backup.md");
        let from = page.find(&format!("```{name}\n")).expect("the page has the block") + name.len() + 4;
        &page[from..from + page[from..].find("```").expect("it ends")]
    }

    fn example() -> Manifest {
        let id = BackupId::parse("20261123T052015.000Z-0badcafe").unwrap();
        let file = |name: &str, content: &str| BackupFile {
            name: name.to_owned(),
            length: content.len() as u64,
            sha256: hex(&Sha256::digest(content)),
        };
        Manifest {
            id,
            cluster: "9f86d081884c7d659a2feaa0c55ad015".to_owned(),
            created_ms: 1_795_411_215_000,
            version: "0.1.0".to_owned(),
            term: 3,
            index: 4711,
            inodes: 1_000_017,
            secret_key: "00112233aabbccdd".to_owned(),
            files: vec![file("000012.sst", "forebay"), file("CURRENT", "MANIFEST-000005\n")],
        }
    }

    #[test]
    fn a_manifest_is_as_the_page_says() {
        assert_eq!(String::from_utf8(example().encode()).unwrap(), block("manifest"));
        assert_eq!(Manifest::decode(&example().id, block("manifest").as_bytes()).unwrap(), example());
    }

    #[test]
    fn no_changed_byte_passes() {
        let bytes = example().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Manifest::decode(&example().id, &changed).is_err(), "byte {at}");
            assert!(Manifest::decode(&example().id, &bytes[..at]).is_err(), "cut at {at}");
        }
        let other = BackupId::draw(TimestampMs(0));
        assert!(Manifest::decode(&other, &bytes).is_err());
    }

    #[test]
    fn newer_formats_are_told_from_damage() {
        let text = String::from_utf8(example().encode()).unwrap().replacen("backup 1", "backup 2", 1);
        assert!(matches!(Manifest::decode(&example().id, text.as_bytes()), Err(BackupError::Newer { found: 2, .. })));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../x", "a/b", "/etc/passwd", "..", ".", "", "CURRENT"] {
            let mut manifest = example();
            manifest.files[0].name = name.to_owned();
            assert!(Manifest::decode(&manifest.id, &manifest.encode()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn numbers_that_overflow_are_refused() {
        let changes: [fn(&mut Manifest); 6] = [
            |manifest| manifest.term = u64::MAX,
            |manifest| manifest.index = u64::MAX - 4711,
            |manifest| manifest.inodes = 1 << 63,
            |manifest| manifest.created_ms = u64::MAX,
            |manifest| manifest.files[0].length = u64::MAX,
            |manifest| manifest.files.iter_mut().for_each(|file| file.length = 1 << 62),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut manifest = example();
            change(&mut manifest);
            assert!(Manifest::decode(&manifest.id, &manifest.encode()).is_err(), "change {number}");
        }
    }

    #[test]
    fn identifiers_sort_by_time_and_are_told_from_other_names() {
        let (early, late) =
            (BackupId::draw(TimestampMs(1_795_411_215_000)), BackupId::draw(TimestampMs(1_795_411_215_001)));
        assert!(early < late && early.as_str().starts_with("20261123T"), "{early}");
        assert_eq!(BackupId::parse(early.as_str()), Some(early));
        for wrong in [
            "",
            "x",
            "20261123T052015Z",
            "20261123T052015.000Z-0badcaf",
            "20261123T052015.000Z-0BADCAFE",
            "../20261123",
        ] {
            assert_eq!(BackupId::parse(wrong), None, "{wrong}");
        }
    }
}
