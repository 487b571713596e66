//! Forebay consensus.
