//! How a command ends: what is printed, and the exit code that scripts see.

use forebay_base::{ErrorKind, PathError};

/// Exit codes; `docs/commands.md` lists them.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Wrong use: flags, arguments, configuration.
pub(crate) const EXIT_USAGE: u8 = 2;

/// The failures of a command with several arguments: each is told when it happens, and the others are done all the same.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    first: Option<u8>,
}

/// What ends a command whose failures have been told already.
#[derive(Debug, thiserror::Error)]
#[error("not everything was done")]
struct Told(u8);

impl Failures {
    /// The value, or nothing after the failure was told.
    pub(crate) fn take<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                print(error);
                self.first.get_or_insert(exit_code(error));
            })
            .ok()
    }

    /// Fails with the exit code of the first failure.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.first.map_or(Ok(()), |code| Err(Told(code).into()))
    }
}

/// A signal ended the command.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted {
    pub(crate) signal: u8,
}

impl Interrupted {
    /// As a shell reports it.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.signal
    }
}

/// The exit code of a failed command.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(Told(code)) = error.downcast_ref() {
        return *code;
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return interrupted.exit_code();
    }
    if error.chain().any(|cause| cause.is::<PathError>()) {
        return EXIT_USAGE;
    }
    kind(error).map_or(EXIT_FAILURE, |kind| match kind {
        ErrorKind::InvalidArgument => EXIT_USAGE,
        ErrorKind::NotFound => 3,
        ErrorKind::AlreadyExists => 4,
        ErrorKind::PermissionDenied => 5,
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => 6,
        ErrorKind::Conflict => 7,
        ErrorKind::Corrupt => 8,
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::NotEmpty | ErrorKind::Internal => EXIT_FAILURE,
    })
}

/// The kind of a failure that a server or the client library told.
pub(crate) fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    client_error(error).map(forebay_client::Error::kind)
}

fn client_error(error: &anyhow::Error) -> Option<&forebay_client::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// The contexts and the error of the client library; what lies below it is for debuggers.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<forebay_client::Error>() {
            break;
        }
    }
    parts.join(": ")
}

/// Prints a failure and what mends it to standard error.
pub(crate) fn print(error: &anyhow::Error) {
    if error.is::<Told>() {
        return;
    }
    eprintln!("error: {}", message(error));
    let hint = client_error(error).map(forebay_client::Error::hint).filter(|hint| !hint.is_empty());
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}
