//! Progress of long work: on a terminal a bar with bytes, rate and time left; elsewhere nothing.

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{fmt, io::IsTerminal, time::Duration};

/// A bar that counts bytes; its total grows as more work is found.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on standard error, if that is a terminal and `quiet` is not asked for.
    pub(crate) fn new(quiet: bool) -> Progress {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        // Without a length as long as nothing was found: a bar of 0 bytes would be full.
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(
            "{msg:.dim} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {left}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("left", left));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// More work was found.
    pub(crate) fn expect(&self, bytes: u64) {
        self.bar.update(|state| state.set_len(state.len().unwrap_or(0) + bytes));
    }

    /// Some was done.
    pub(crate) fn done(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// What is being worked on.
    pub(crate) fn at(&self, what: impl std::fmt::Display) {
        self.bar.set_message(what.to_string());
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The time left; nothing is known of it before the first bytes are done.
fn left(state: &ProgressState, to: &mut dyn fmt::Write) {
    if state.pos() > 0 && state.len().is_some() {
        let _ = write!(to, "{:#} left", HumanDuration(state.eta()));
    }
}
