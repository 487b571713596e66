//! Benchmarks: each measures Forebay and, in the same run, what the machine could do at best.
//!
//! `forebay-bench NAME [--quick] [--inodes N] [--output DIR]` runs one, `all` runs every one, `list` names them. A table goes to the
//! terminal and `NAME.json` to the output directory. A benchmark is one file here: a function from [`Setting`] to a
//! [`Report`](report::Report), entered in [`registry`].

mod apply;
mod cold_read;
mod commands;
mod direct;
mod failover;
mod hot_read;
mod lake;
pub mod limits;
pub mod machine;
mod memory;
mod metadata;
mod pace;
mod raft;
pub mod registry;
pub mod report;
mod scale;
mod small_files;
mod write;

/// How a benchmark is to be run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Whether it must end within 60 seconds.
    pub is_quick: bool,
    /// How many inodes `scale` loads, where that is said.
    pub inodes: Option<u64>,
}

impl Setting {
    /// The number for a long run, or the one for a quick run.
    pub fn pick<T>(&self, long: T, quick: T) -> T {
        if self.is_quick { quick } else { long }
    }
}
