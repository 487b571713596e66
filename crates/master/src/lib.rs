//! Forebay master.
