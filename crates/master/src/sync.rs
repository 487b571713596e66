//! The comparison of the namespace with its stores.

mod merge;
