//! Reads every row of a namespace: what there is, and whether it can all be read and agrees with the counters.

use crate::keys;
use crate::query::{self, Summary};
use crate::{ApplyError, machine};
use forebay_base::checksum::Crc32c;
use forebay_metastore::{Direction, KeyRange, Read};
use prost::Message;

/// All rows of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// What the state machine says about itself.
    pub summary: Summary,
    /// The rows by kind, in the order of their keys; kinds without rows are left out.
    pub kinds: Vec<KindCount>,
    /// A checksum of all that commands have made: of all rows, but of the state machine's own only the counters and the version, not how far log and log time are. Members that have
    /// applied the same have the same, also when one has applied more that changes nothing.
    pub digest: u32,
}

/// The rows of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// The first byte of their keys.
    pub kind: char,
    /// What they are.
    pub what: &'static str,
    /// How many.
    pub rows: u64,
    /// Bytes of their keys.
    pub key_bytes: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
}

/// Reads all rows. A row that cannot be read, or a count that is not that of the rows, is [`ApplyError::Corrupt`].
pub fn census(read: &dyn Read) -> Result<Census, ApplyError> {
    let state = machine::stored_state(read)?;
    let mut kinds: Vec<KindCount> = Vec::new();
    let mut digest = Crc32c::new();
    for row in read.scan(KeyRange::all(), Direction::Forward) {
        let (key, value) = row?;
        match key[..] == keys::state::KEY[..] {
            true => digest.update(&state.without_position().encode_to_vec()),
            false => [&key, &value].into_iter().for_each(|bytes| {
                digest.update(&(bytes.len() as u64).to_be_bytes());
                digest.update(bytes);
            }),
        }
        let (key_bytes, value_bytes) = (key.len() as u64, value.len() as u64);
        let (kind, what) = keys::check(&key, value)?;
        // Keys of a kind lie together.
        match kinds.last_mut().filter(|last| last.kind == kind) {
            Some(count) => {
                count.rows += 1;
                count.key_bytes += key_bytes;
                count.value_bytes += value_bytes;
            }
            None => kinds.push(KindCount { kind, what, rows: 1, key_bytes, value_bytes }),
        }
    }
    let counters = &state.counters;
    let counted = [
        ('I', counters.inodes),
        ('T', counters.trash_entries),
        ('W', counters.writes),
        ('N', counters.intents),
        ('B', counters.blocked_keys),
    ];
    for (kind, expected) in counted {
        let found = kinds.iter().find(|count| count.kind == kind).map_or(0, |count| count.rows);
        if found != expected {
            return Err(ApplyError::Corrupt(format!(
                "there are {found} rows of kind {kind}, and {expected} are counted"
            )));
        }
    }
    Ok(Census { summary: query::summary(read)?, kinds, digest: digest.finalize() })
}
