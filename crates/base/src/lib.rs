//! Forebay base.
