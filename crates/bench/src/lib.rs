//! Benchmarks: each measures Forebay and, in the same run, what the machine could do at best.
//!
//! `forebay-bench NAME [--quick] [--output DIR]` runs one, `all` runs every one, `list` names them. A table goes to the
//! terminal and `NAME.json` to the output directory. A benchmark is one file here: a function from [`Setting`] to a
//! [`Report`](report::Report), entered in [`registry`].

mod cold_read;
mod direct;
mod hot_read;
mod lake;
pub mod limits;
pub mod machine;
mod memory;
mod metadata;
mod pace;
pub mod registry;
pub mod report;
mod small_files;
mod write;

/// How a benchmark is to be run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Whether it must end within 60 seconds.
    pub is_quick: bool,
}

impl Setting {
    /// The number for a long run, or the one for a quick run.
    pub fn pick<T>(&self, long: T, quick: T) -> T {
        if self.is_quick { quick } else { long }
    }
}
