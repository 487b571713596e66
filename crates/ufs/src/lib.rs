//! Forebay ufs.
