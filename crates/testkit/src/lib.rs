//! Forebay testkit.
