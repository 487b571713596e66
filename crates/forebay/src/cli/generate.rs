//! `forebay completions` and `forebay man`.

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Prints completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

/// Writes manual pages.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory for one page a command; without it the page of `forebay` itself is printed.
    directory: Option<PathBuf>,
}

/// Prints completions.
pub(crate) fn completions(args: &Completions, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "forebay", &mut script);
    io::stdout().lock().write_all(&script).inspect_err(crate::cli::output::quit_on_closed_pipe)?;
    Ok(())
}

/// Writes the pages.
pub(crate) fn man(args: &Man, command: Command) -> anyhow::Result<()> {
    match &args.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            clap_mangen::generate_to(command, directory)
                .with_context(|| format!("cannot write to {}", directory.display()))
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().lock().write_all(&page).inspect_err(crate::cli::output::quit_on_closed_pipe)?;
            Ok(())
        }
    }
}
