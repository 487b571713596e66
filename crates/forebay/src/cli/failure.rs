//! How a command ends: what is printed, and the exit code that scripts see.

use super::output;
use crate::config::ConfigError;
use forebay_base::{ErrorKind, PathError};
use serde_json::{Value, json};
use std::{
    io,
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Exit codes; `docs/commands.md` lists them.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Wrong use: flags, arguments, configuration.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Whether failures are told as JSON: the command was given `--json`.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets how failures are told.
pub(crate) fn tell_as_json(yes: bool) {
    AS_JSON.store(yes, Relaxed);
}

/// The failures of a command with several arguments: each is told when it happens, and the others are done all the same.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    first: OnceLock<u8>,
    count: AtomicU64,
}

/// What ends a command whose failures have been told already.
#[derive(Debug, thiserror::Error)]
#[error("not everything was done")]
struct Told(u8);

impl Failures {
    /// The value, or nothing after the failure was told.
    pub(crate) fn take<T>(&self, result: anyhow::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                print(error);
                self.count.fetch_add(1, Relaxed);
                self.first.get_or_init(|| exit_code(error));
            })
            .ok()
    }

    /// For one file of many: the value, or nothing after a failure that is the file's own was told. One that the next files would
    /// meet as well is given back, for it to end the work.
    pub(crate) fn take_of_many<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match result {
            Err(error) if !ends_all(&error) => Ok(self.take(Err(error))),
            other => other.map(Some),
        }
    }

    /// How many were told.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Fails with the exit code of the first failure.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.first.into_inner().map_or(Ok(()), |code| Err(Told(code).into()))
    }
}

/// Whether the next file would fail in the same way: a service or a store that does not answer, a full disk, a closed output.
fn ends_all(error: &anyhow::Error) -> bool {
    let full = |error: &std::io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::BrokenPipe);
    matches!(kind(error), Some(ErrorKind::Unavailable | ErrorKind::DeadlineExceeded))
        || error.is::<Interrupted>()
        || error.chain().filter_map(|cause| cause.downcast_ref()).any(full)
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
    kind(error).or_else(|| start_kind(error)).or_else(|| local_kind(error)).map_or(EXIT_FAILURE, |kind| match kind {
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

/// The kind of what keeps a server from starting.
fn start_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<forebay_master::StartError>())?.kind()
}

/// The kind of a failure of a local file.
fn local_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    let error: &io::Error = error.chain().find_map(|cause| cause.downcast_ref())?;
    match error.kind() {
        io::ErrorKind::NotFound => Some(ErrorKind::NotFound),
        io::ErrorKind::AlreadyExists => Some(ErrorKind::AlreadyExists),
        io::ErrorKind::PermissionDenied => Some(ErrorKind::PermissionDenied),
        _ => None,
    }
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
    let hint = client_error(error).map(forebay_client::Error::hint).unwrap_or_default();
    if AS_JSON.load(Relaxed) {
        eprintln!("{}", as_json(kind_name(error), &message(error), hint));
        return;
    }
    eprintln!("error: {}", output::printable(&message(error)));
    if !hint.is_empty() {
        eprintln!("hint: {}", output::printable(hint));
    }
}

fn as_json(kind: &str, message: &str, hint: &str) -> Value {
    json!({ "kind": kind, "message": message, "hint": hint })
}

/// The kind as programs see it; `local` is what failed on this machine: a file, standard output.
fn kind_name(error: &anyhow::Error) -> &'static str {
    match kind(error) {
        Some(kind) => kind.as_str(),
        None if error.is::<Interrupted>() => "interrupted",
        None if exit_code(error) == EXIT_USAGE => ErrorKind::InvalidArgument.as_str(),
        None => "local",
    }
}

/// Tells of a command line that makes no sense, or shows the help that was asked for.
pub(crate) fn wrong_use(error: &clap::Error) -> ExitCode {
    // What it would have been cannot be known: the flag itself says what is wanted.
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let (message, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.trim_start_matches("error: ");
        eprintln!("{}", as_json(ErrorKind::InvalidArgument.as_str(), message.trim(), hint.trim()));
        return ExitCode::from(EXIT_USAGE);
    }
    // Nobody may be reading.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE))
}

/// Tells of every mistake of the configuration.
pub(crate) fn wrong_configuration(errors: &[ConfigError]) -> ExitCode {
    for error in errors {
        match AS_JSON.load(Relaxed) {
            true => eprintln!("{}", as_json(ErrorKind::InvalidArgument.as_str(), &error.to_string(), "")),
            false => eprintln!("error: {error}"),
        }
    }
    ExitCode::from(EXIT_USAGE)
}
