//! Forebay cache.
