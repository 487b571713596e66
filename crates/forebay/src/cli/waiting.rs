//! Says what a command waits for when it takes long: most of all a store or a master that does not answer.

use super::output;
use forebay_base::HumanDuration;
use forebay_client::{OnWait, Wait};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// So long a silence needs no explanation.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nothing is said: what reads standard error expects JSON, or quiet was asked for.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Sets whether commands keep silent.
pub(super) fn keep_silent(yes: bool) {
    SILENT.store(yes, Relaxed);
}

/// Who is told of calls that take long. One note in a command, and one more once it is known why: also where nobody sees a terminal, a log that ends
/// in an error after a minute is read with it in mind.
pub(super) fn observer() -> Option<OnWait> {
    let (said, said_why) = (AtomicBool::new(false), AtomicBool::new(false));
    let tell = move |wait: &Wait| {
        let first = !said.swap(true, Relaxed);
        let first_why = wait.cause.is_some() && !said_why.swap(true, Relaxed);
        if first || first_why {
            eprintln!("{}", output::printable(&text(wait)));
        }
    };
    (!SILENT.load(Relaxed)).then(|| OnWait::new(PATIENCE, tell))
}

fn text(wait: &Wait) -> String {
    let why = wait.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
    format!("note: still waiting for {}{why}; giving up after {}", wait.what, HumanDuration(wait.deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_what_is_waited_for_and_why() {
        let wait = |cause: Option<&str>| Wait {
            what: "the masters (a:1)".into(),
            cause: cause.map(str::to_owned),
            deadline: Duration::from_secs(60),
        };
        assert_eq!(text(&wait(None)), "note: still waiting for the masters (a:1); giving up after 1m");
        let why = "note: still waiting for the masters (a:1): no answer from s3://x; giving up after 1m";
        assert_eq!(text(&wait(Some("no answer from s3://x"))), why);
    }
}
