//! The benchmarks by name.

use anyhow::Result;
use futures::future::BoxFuture;

use crate::report::Report;
use crate::{Setting, apply, cold_read, failover, hot_read, limits, memory, metadata, raft, scale, small_files, write};

/// One benchmark.
#[derive(Debug)]
pub struct Bench {
    /// What it is called on the command line and in `target/bench/`.
    pub name: &'static str,
    /// One line for `list`.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(Setting) -> BoxFuture<'static, Result<Report>>,
}

/// All of them, in the order in which `all` runs them.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "limits",
        about: "what this machine does without Forebay: the limits that the others are held against",
        run: |setting| Box::pin(limits::run(setting)),
    },
    Bench {
        name: "hot-read",
        about: "cached bytes: over TCP against sendfile, on the same host against pread",
        run: |setting| Box::pin(hot_read::run(setting)),
    },
    Bench {
        name: "cold-read",
        about: "bytes of an S3 store, first time: against the same GETs by OpenDAL alone; bytes asked for one needed",
        run: |setting| Box::pin(cold_read::run(setting)),
    },
    Bench {
        name: "write",
        about: "files written through to an S3 store: against the same uploads by OpenDAL alone",
        run: |setting| Box::pin(write::run(setting)),
    },
    Bench {
        name: "metadata",
        about: "create, stat, list, rename, delete with 1 and 64 clients, and the sync rate of the disk",
        run: |setting| Box::pin(metadata::run(setting)),
    },
    Bench {
        name: "small-files",
        about: "files of 100 KB in random order, cold and hot",
        run: |setting| Box::pin(small_files::run(setting)),
    },
    Bench {
        name: "memory",
        about: "the master with many inodes: resident memory and bytes on disk an inode",
        run: |setting| Box::pin(memory::run(setting)),
    },
    Bench {
        name: "apply",
        about: "the state machine alone: commands a second, against RocksDB taking the same rows",
        run: |setting| Box::pin(apply::run(setting)),
    },
    Bench {
        name: "raft",
        about: "committed creates with one and three masters: against syncs of the disk, and the log in memory",
        run: |setting| Box::pin(raft::run(setting)),
    },
    Bench {
        name: "failover",
        about: "kills of the leader of three masters: how long no write succeeds",
        run: |setting| Box::pin(failover::run(setting)),
    },
    Bench {
        name: "scale",
        about: "a master with --inodes N: load, memory, disk, look-ups and restarts",
        run: |setting| Box::pin(scale::run(setting)),
    },
];

/// The names, for messages.
pub fn names() -> Vec<&'static str> {
    BENCHES.iter().map(|bench| bench.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_none_is_a_command() {
        let mut names = names();
        names.extend(["all", "list"]);
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
