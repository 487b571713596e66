//! Forebay worker.
