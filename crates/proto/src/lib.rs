//! Forebay proto.
