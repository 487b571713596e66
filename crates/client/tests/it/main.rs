//! The suites of the client library, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

/// Compares bytes; a failure does not print them all.
macro_rules! same {
    ($got:expr, $expected:expr) => {
        same!($got, $expected, "other bytes were read")
    };
    ($got:expr, $expected:expr, $($message:tt)*) => {
        assert!($got == $expected, $($message)*)
    };
}

mod content;
mod direct;
mod end_to_end;
mod fake;
mod metadata;
mod near;
mod pipeline;
mod reads;
mod real;
mod writes;
