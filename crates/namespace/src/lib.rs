//! Forebay namespace.
