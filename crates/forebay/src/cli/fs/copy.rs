//! `forebay fs cp`: within the tree, and between it and local files; and what it has in common with `forebay fs mv`.
//!
//! Sources are walked while files are copied, a few at a time, each streamed with bounded memory. A file appears at its
//! target whole or not at all, on both sides. What is moved is removed file by file, each when its copy is stored, and its directories last.

mod attributes;
mod job;
mod local;
mod one;
mod remove;
mod source;
mod target;

use super::report::Report;
use crate::cli::failure::Failures;
use anyhow::ensure;
use clap::Args;
use forebay_client::Client;
use std::ffi::OsString;

pub(super) use job::{Act, How, Job};
pub(super) use one::{Options, Preserve};
pub(super) use source::Source;
pub(super) use target::{Target, resolved};

/// Copies files and directories.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// What to copy, then where to: into it when that is a directory. `/lake/x` is in the tree, `file:/tmp/x`, `./x` and `x` are local, `-` is standard input or output.
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<OsString>,
    /// Directories with all below them.
    #[arg(short, long)]
    recursive: bool,
    /// Leaves files alone that exist already; the others are replaced.
    #[arg(short = 'n', long)]
    no_clobber: bool,
    /// Keeps modification times.
    #[arg(short, long)]
    preserve: bool,
    #[command(flatten)]
    tuning: Tuning,
    #[command(flatten)]
    report: Report,
}

// No doc comment: clap would take it for that of the command.
#[derive(Debug, Args)]
pub(super) struct Tuning {
    /// Files at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) parallel: u16,
    /// Does not keep in the cache what is copied.
    #[arg(long)]
    pub(super) no_cache: bool,
}

/// Standard input as a source, standard output as a target.
pub(super) const STANDARD_STREAM: &str = "-";

/// Copies. What cannot be copied is told, and the rest is copied all the same.
pub(crate) async fn run(args: Cp, client: &Client) -> anyhow::Result<()> {
    let (to, from) = args.paths.split_last().expect("clap asks for two");
    let failures = Failures::default();
    let mut sources = Vec::new();
    for argument in from {
        sources.extend(failures.take(Source::find(client, argument).await).unwrap_or_default());
    }
    let target = Target::find(client, to).await?;
    ensure!(
        target.is_directory() || from.len() == 1 && sources.len() <= 1,
        "{target} is not a directory: several sources cannot be copied to it"
    );
    let job = Job::new(client, args.how(), args.report.progress(), failures);
    for source in sources {
        job.failures.take(copy(&job, &source, &target).await);
    }
    job.progress.finish();
    if !matches!(target, Target::Stdout) {
        args.report.end(job.totals.json(), job.totals.text("copied"));
    }
    job.failures.end()
}

async fn copy(job: &Job<'_>, source: &Source, target: &Target) -> anyhow::Result<()> {
    let root = target.root_for(source)?;
    root.need_outside(source, job.how.act)?;
    root.need_store(job.client).await?;
    job.run(source, &root).await
}

impl Cp {
    fn how(&self) -> How {
        How {
            act: Act::Copy,
            recursive: self.recursive,
            parallel: self.tuning.parallel.into(),
            options: Options {
                no_clobber: self.no_clobber,
                preserve: if self.preserve { Preserve::Time } else { Preserve::Nothing },
                no_cache: self.tuning.no_cache,
            },
        }
    }
}
