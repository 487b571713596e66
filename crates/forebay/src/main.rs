//! The binary: every role of Forebay and its command line.

mod cli;
mod config;
mod server;

fn main() -> std::process::ExitCode {
    cli::run()
}
