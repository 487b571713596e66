//! Reading with a right that somebody else has given: [`crate::Ufs::grant_read`] makes it where the credentials are, [`GrantedReads`] reads
//! with it where there are none.
//!
//! A right is for one version of one object and for a while. Who reads with it checks each answer as the store's own reads do: another version is
//! [`crate::UfsError::VersionChanged`], before the first byte or in the middle, and never handed on. A right that has ended is
//! [`crate::UfsError::Denied`].

use crate::local::LocalUfs;
use crate::s3::granted::Line;
use crate::{ByteStream, Expected, Ufs, UfsResult};
use bytes::Bytes;
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// Stores that one reader knows; the one found first is forgotten for another.
const DOORS_MAX: usize = 64;

/// The right to read one version of one object for a while, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The store's URI, for messages.
    pub store: String,
    /// The object's key below the store's root.
    pub key: Bytes,
    /// The version; no other may be handed on.
    pub expected: Expected,
    /// How long it is good, counted from before it was asked for.
    pub lifetime: Duration,
    /// How it is read.
    pub way: GrantedWay,
}

/// How an object is read by who has the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedWay {
    /// By GET of a signed URL.
    Http(HttpGrant),
    /// As a file below this directory, where the reader's host has the same file system.
    Directory(PathBuf),
}

/// A GET that is signed already. Who knows the URL may read, so it is never logged; debug output hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// What is asked, with the signature in its query.
    pub url: String,
    /// Headers that are signed, and must be sent as they are.
    pub headers: Vec<(String, String)>,
    /// Certificates in PEM that are trusted besides the system's; may be empty.
    pub authorities: Bytes,
}

impl fmt::Debug for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGrant").field("url", &"(hidden)").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Reads with rights. Connections to a store are shared by all that is read from it, and their number is bounded.
#[derive(Debug)]
pub struct GrantedReads {
    reads_max: usize,
    doors: Mutex<Vec<(Place, Door)>>,
}

/// What tells stores apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Http { endpoint: String, authorities: Bytes },
    Directory(PathBuf),
}

/// A store as it is read.
#[derive(Clone, Debug)]
enum Door {
    Http(Line),
    Directory(LocalUfs),
}

impl GrantedReads {
    /// With so many streams from one store at the same time; more wait.
    pub fn new(reads_max: usize) -> GrantedReads {
        GrantedReads { reads_max: reads_max.max(1), doors: Mutex::default() }
    }

    /// The bytes of a range, which must lie within the object and not be empty; see [`Ufs::read`]. A failure that may pass is tried again a few times only, since
    /// the caller may know another way.
    pub async fn read(&self, grant: &ReadGrant, range: Range<u64>) -> UfsResult<ByteStream> {
        match (&grant.way, self.door(grant)?) {
            (GrantedWay::Http(http), Door::Http(line)) => line.read(grant, http, range).await,
            (_, Door::Directory(store)) => store.read(&grant.key, range, &grant.expected).await,
            (_, Door::Http(_)) => unreachable!("a door is of the kind of its place"),
        }
    }

    fn door(&self, grant: &ReadGrant) -> UfsResult<Door> {
        let place = match &grant.way {
            GrantedWay::Http(http) => {
                Place::Http { endpoint: Line::endpoint(&http.url), authorities: http.authorities.clone() }
            }
            GrantedWay::Directory(root) => Place::Directory(root.clone()),
        };
        if let Some((_, door)) = self.doors.lock().iter().find(|(known, _)| *known == place) {
            return Ok(door.clone());
        }
        // Made without the lock: the system's certificates are read from its disk. Of two made at once one is forgotten.
        let door = match &place {
            Place::Http { endpoint, authorities } => {
                Door::Http(Line::new(&grant.store, endpoint, authorities, self.reads_max)?)
            }
            // Another file system may be mounted there tomorrow: the version is compared.
            Place::Directory(root) => Door::Directory(LocalUfs::of_any_device(root)),
        };
        let mut doors = self.doors.lock();
        if let Some((_, other)) = doors.iter().find(|(known, _)| *known == place) {
            return Ok(other.clone());
        }
        if doors.len() >= DOORS_MAX {
            doors.remove(0);
        }
        doors.push((place, door.clone()));
        Ok(door)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UfsError;
    use forebay_base::VersionTag;

    fn grant(way: GrantedWay) -> ReadGrant {
        let expected = Expected { tag: VersionTag("t".into()), length: 4 };
        let store = "s3://b".to_owned();
        ReadGrant { store, key: Bytes::from_static(b"k"), expected, lifetime: Duration::from_secs(1), way }
    }

    #[test]
    fn debug_output_hides_the_url() {
        let url = "http://127.0.0.1:1/b/k?X-Amz-Signature=verysecret".to_owned();
        let http = HttpGrant { url, headers: Vec::new(), authorities: Bytes::new() };
        let text = format!("{:?}", grant(GrantedWay::Http(http)));
        assert!(!text.contains("127.0.0.1") && !text.contains("verysecret"), "{text}");
    }

    #[test]
    fn stores_are_kept_up_to_a_bound() {
        let reads = GrantedReads::new(1);
        for number in 0..2 * DOORS_MAX {
            let root = PathBuf::from(format!("/nowhere/{}", number / 2));
            reads.door(&grant(GrantedWay::Directory(root))).unwrap();
        }
        assert_eq!(reads.doors.lock().len(), DOORS_MAX);
        reads.door(&grant(GrantedWay::Directory("/elsewhere".into()))).unwrap();
        assert_eq!(reads.doors.lock().len(), DOORS_MAX);
    }

    #[tokio::test]
    async fn a_file_is_read_where_the_host_has_it_and_only_in_its_version() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k"), "abcd").unwrap();
        let store = LocalUfs::new(dir.path());
        let expected = store.stat(b"k").await.unwrap().unwrap().expected();
        let granted = store.grant_read(b"k", &expected, Duration::from_secs(60)).await.unwrap();
        let reads = GrantedReads::new(4);
        let read = async |grant: &ReadGrant| -> UfsResult<Vec<u8>> {
            use futures::TryStreamExt;
            let chunks: Vec<Bytes> = reads.read(grant, 1..3).await?.try_collect().await?;
            Ok(chunks.concat())
        };
        assert_eq!(read(&granted).await.unwrap(), b"bc");
        let elsewhere = ReadGrant { way: GrantedWay::Directory("/no/such/place".into()), ..granted.clone() };
        assert!(matches!(read(&elsewhere).await, Err(UfsError::RootMissing(_))));
        std::fs::write(dir.path().join("k"), "abcde").unwrap();
        assert!(matches!(read(&granted).await, Err(UfsError::VersionChanged(_))));
    }

    /// As when a network file system is mounted only after the first read.
    #[tokio::test]
    async fn a_file_system_that_is_mounted_later_is_read() {
        let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(files.path().join("k"), "abcd").unwrap();
        let root = dir.path().join("root");
        std::os::unix::fs::symlink("/proc", &root).unwrap();
        let expected = LocalUfs::new(files.path()).stat(b"k").await.unwrap().unwrap().expected();
        let grant = ReadGrant { expected, ..grant(GrantedWay::Directory(root.clone())) };
        let reads = GrantedReads::new(4);
        assert!(matches!(reads.read(&grant, 0..4).await, Err(UfsError::NotFound(_))));
        std::fs::remove_file(&root).unwrap();
        std::os::unix::fs::symlink(files.path(), &root).unwrap();
        assert!(reads.read(&grant, 0..4).await.is_ok());
    }
}
