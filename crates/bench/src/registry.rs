//! The benchmarks by name.

use anyhow::Result;
use futures::future::BoxFuture;

use crate::{Setting, limits, report::Report};

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
pub const BENCHES: &[Bench] = &[Bench {
    name: "limits",
    about: "what this machine does without Forebay: the limits that the others are held against",
    run: |setting| Box::pin(limits::run(setting)),
}];

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
