//! Forebay metastore.
