//! Forebay placement.
