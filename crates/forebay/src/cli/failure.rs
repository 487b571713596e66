//! How a command ends: what is printed, and the exit code that scripts see.

use forebay_base::{ErrorKind, PathError};

/// Exit codes; `docs/commands.md` lists them.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Wrong use: flags, arguments, configuration.
pub(crate) const EXIT_USAGE: u8 = 2;

/// The exit code of a failed command.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
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

/// Prints a failure and what mends it to standard error.
pub(crate) fn print(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
    let hint = client_error(error).map(forebay_client::Error::hint).filter(|hint| !hint.is_empty());
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}
