//! Forebay client.
