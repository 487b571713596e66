//! The simulation itself: it repeats, it holds, and it finds what is wrong.

#![allow(clippy::unwrap_used)]

mod planted;
mod repeats;
mod seeds;
