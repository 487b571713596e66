//! How commands that take long tell of it.

use crate::cli::{output, progress::Progress};
use clap::Args;
use serde_json::Value;
use std::fmt::Display;

// No doc comment: clap would take it for that of the command.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// No progress bar, and no summary.
    #[arg(short, long)]
    quiet: bool,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Report {
    /// The bar, if one is wanted.
    pub(super) fn progress(&self) -> Progress {
        Progress::new(self.quiet || self.json)
    }

    /// What was done, as it was asked for.
    pub(super) fn end(&self, value: Value, text: impl Display) {
        if self.json {
            output::line(value);
        } else if !self.quiet {
            output::line(text);
        }
    }
}
