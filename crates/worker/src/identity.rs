//! Who this worker is: an id kept in its directory, and the host it runs on.

use crate::error::StartError;
use forebay_base::data_dir::write_whole;
use forebay_base::{ErrorKind, WorkerId};
use forebay_proto::error::{self, WireError};
use std::fs;
use std::io;
use std::path::Path;

const ID_FILE: &str = "worker-id";
const CLUSTER_FILE: &str = "cluster-id";

/// The worker's id: read from its directory, or drawn and kept there.
pub(crate) fn worker_id(data_dir: &Path) -> Result<WorkerId, StartError> {
    let path = data_dir.join(ID_FILE);
    let at = |source| StartError::DataDir { path: path.clone(), source };
    forebay_base::data_dir::create_private(data_dir).map_err(at)?;
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| {
            at(io::Error::new(
                io::ErrorKind::InvalidData,
                "it does not hold a worker id of 16 hexadecimal digits: delete it to get a new one",
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = draw().map_err(at)?;
            keep(data_dir, ID_FILE, &format!("{:016x}", id.0)).map_err(at)?;
            Ok(id)
        }
        Err(error) => Err(at(error)),
    }
}

fn parse(text: &str) -> Option<WorkerId> {
    let digits = text.trim_end();
    let id = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16 && id != 0).then_some(WorkerId(id))
}

fn keep(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    write_whole(&data_dir.join(name), format!("{text}\n").as_bytes(), 0o644)
}

/// The cluster that the cache belongs to; empty if it has joined none yet.
pub(crate) fn cluster(data_dir: &Path) -> Result<String, WireError> {
    let path = data_dir.join(CLUSTER_FILE);
    match fs::read_to_string(&path) {
        Ok(known) if known.trim_end().is_empty() => {
            let message = format!("{} names no cluster", path.display());
            Err(WireError::new(ErrorKind::Corrupt, message).with_hint(
                "stop the worker, empty its data directory and the directories of its tiers, and start it again",
            ))
        }
        Ok(known) => Ok(known.trim_end().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(WireError::new(ErrorKind::Internal, format!("cannot read {}: {error}", path.display()))),
    }
}

/// Checks that the cache belongs to `cluster`, and keeps its id at the first call.
///
/// Cached pages are named by inode and version, which another cluster gives to other files: its clients would be served wrong bytes
/// with right checksums.
pub(crate) fn check_cluster(data_dir: &Path, cluster: &str) -> Result<(), WireError> {
    let known = self::cluster(data_dir)?;
    if known.is_empty() {
        return keep(data_dir, CLUSTER_FILE, cluster).map_err(|error| {
            let path = data_dir.join(CLUSTER_FILE);
            WireError::new(ErrorKind::Internal, format!("cannot write {}: {error}", path.display()))
        });
    }
    match known == cluster {
        true => Ok(()),
        false => Err(error::other_cluster(&known, cluster)),
    }
}

fn draw() -> io::Result<WorkerId> {
    let mut bytes = [0u8; 8];
    loop {
        let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
        let id = u64::from_le_bytes(bytes);
        if got == bytes.len() && id != 0 {
            return Ok(WorkerId(id));
        }
    }
}

/// Equal for all processes of one running kernel, and for no others.
pub(crate) fn host_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The host's name, for addresses that others shall use.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cache_belongs_to_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(super::cluster(dir.path()).unwrap(), "");
        super::check_cluster(dir.path(), "one").unwrap();
        super::check_cluster(dir.path(), "one").unwrap();
        assert_eq!(super::cluster(dir.path()).unwrap(), "one");
        std::fs::write(dir.path().join(super::CLUSTER_FILE), "").unwrap();
        super::check_cluster(dir.path(), "one").unwrap_err();
        std::fs::write(dir.path().join(super::CLUSTER_FILE), "one\n").unwrap();
        let error = super::check_cluster(dir.path(), "two").unwrap_err().to_string();
        assert!(error.contains("cluster one") && error.contains("cluster two"), "{error}");
    }

    use super::*;

    #[test]
    fn the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("new");
        let id = worker_id(&data_dir).unwrap();
        assert_ne!(id.0, 0);
        assert_eq!(worker_id(&data_dir).unwrap(), id);
        assert_ne!(worker_id(&dir.path().join("other")).unwrap(), id);
    }

    #[test]
    fn a_damaged_id_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "12", "zz", "0000000000000000"] {
            fs::write(dir.path().join(ID_FILE), text).unwrap();
            let error = worker_id(dir.path()).unwrap_err();
            assert_eq!(error.kind(), forebay_base::ErrorKind::Corrupt, "{text:?}");
            assert_eq!(fs::read_to_string(dir.path().join(ID_FILE)).unwrap(), text);
        }
    }
}
