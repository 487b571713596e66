//! `forebay fs mv`: a rename within one mount; across mounts, and between the tree and local files, a copy of each file that is removed at
//! its source once the target has it.

mod alias;
mod check;

use super::{
    copy::{Act, How, Job, Options, Preserve, Source, Target, Tuning},
    explain,
};
use crate::cli::{failure::Failures, output, progress::Progress};
use anyhow::ensure;
use check::{Checks, Way};
use clap::Args;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, Error, RenameOptions};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Moves or renames.
#[derive(Debug, Args)]
pub(crate) struct Mv {
    /// What to move, directories with all below them, then where to: into it when that is a directory. `/lake/x` is in the tree, `file:/tmp/x`, `./x` and `x` are local.
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<OsString>,
    /// Fails when the target exists.
    #[arg(short = 'n', long, overrides_with = "force")]
    no_clobber: bool,
    /// Replaces files that exist, as without it; undoes --no-clobber.
    #[arg(short, long, overrides_with = "no_clobber")]
    force: bool,
    /// TO is the new name itself, even if it is a directory.
    #[arg(short = 'T', long)]
    no_target_directory: bool,
    /// Moves a directory file by file into one of its name that has entries already, such as after a move that stopped halfway.
    #[arg(long)]
    merge: bool,
    #[command(flatten)]
    tuning: Tuning,
    /// No progress bar, and no summary.
    #[arg(short, long)]
    quiet: bool,
    /// One JSON object for each FROM that was moved whole.
    #[arg(long)]
    json: bool,
}

/// Moves. What cannot be moved is told, and the rest is moved all the same.
pub(crate) async fn run(args: Mv, client: &Client) -> anyhow::Result<()> {
    let (to, from) = args.paths.split_last().expect("clap asks for two");
    ensure_places(&args.paths)?;
    let failures = Failures::default();
    let mut sources = Vec::new();
    for argument in from {
        sources.extend(failures.take(Source::find(client, argument).await).unwrap_or_default());
    }
    let target = Target::find(client, to).await?;
    let target = if args.no_target_directory && target.is_directory() { target.itself() } else { target };
    ensure!(
        target.is_directory() || from.len() == 1 && sources.len() <= 1,
        "{target} is not a directory: several paths cannot be moved to it"
    );
    let checks = Checks { client, mounts: client.mounts().await?, no_clobber: args.no_clobber, merge: args.merge };
    let progress = Progress::new(args.quiet || args.json);
    let mut moving = Moving { job: Job::new(client, args.how(), progress, failures), checks, taken: HashSet::new() };
    for source in &sources {
        let moved = moving.one(source, &target).await;
        if let (Some(moved), true) = (moving.job.failures.take(moved).flatten(), args.json) {
            output::line(moved);
        }
    }
    let Moving { job, .. } = moving;
    job.progress.finish();
    if !args.quiet && !args.json && job.totals.done().files > 0 {
        output::line(job.totals.text("moved"));
    }
    job.failures.end()
}

/// A stream has no place that something could be taken from or put to.
fn ensure_places(paths: &[OsString]) -> anyhow::Result<()> {
    match paths.iter().any(|path| path == super::copy::STANDARD_STREAM) {
        false => Ok(()),
        true => {
            let message = "mv takes no standard input or output";
            let hint = "forebay fs cp copies them; ./- is the file of that name";
            Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(hint).into())
        }
    }
}

/// One command's work.
struct Moving<'a> {
    job: Job<'a>,
    checks: Checks<'a>,
    /// Where sources of this command are by now: the next one shall not replace them.
    taken: HashSet<String>,
}

impl Moving<'_> {
    /// Moves one source. What to print of it, when it was moved whole.
    async fn one(&mut self, source: &Source, target: &Target) -> anyhow::Result<Option<Value>> {
        let root = target.root_for(source)?;
        if self.taken.contains(&root.to_string()) {
            let message = format!("{root} was just moved there: {source} stays");
            return Err(Error::new(ErrorKind::AlreadyExists, message).into());
        }
        let way = self.checks.way(source, &root).await?;
        self.taken.insert(root.to_string());
        if let Way::Rename(from, to) = &way {
            self.rename(from, to).await?;
            return Ok(Some(moved(source, &root, json!({ "renamed": true }))));
        }
        self.job.how.act = if way == Way::RenameFiles { Act::Rename } else { Act::Move };
        let (before, told_before) = (self.job.totals.done(), self.job.failures.count());
        self.job.run(source, &root).await?;
        let after = self.job.totals.done();
        let counts =
            json!({ "renamed": false, "files": after.files - before.files, "bytes": after.bytes - before.bytes });
        Ok((self.job.failures.count() == told_before).then(|| moved(source, &root, counts)))
    }

    async fn rename(&self, from: &NsPath, to: &NsPath) -> anyhow::Result<()> {
        let options = RenameOptions { no_replace: self.checks.no_clobber };
        explain(self.job.client, from, self.job.client.rename(from, to, options).await).await
    }
}

/// What is printed of a source that was moved whole.
fn moved(source: &Source, root: &Target, how: Value) -> Value {
    let mut value = json_of_target(root);
    output::merge(&mut value, json!({ "from": json_of_source(source) }));
    output::merge(&mut value, how);
    value
}

fn json_of_target(target: &Target) -> Value {
    match target {
        Target::Tree { path, .. } => output::path_json(path),
        Target::Local { path, .. } => json_of_local(path),
        Target::Stdout => Value::Null,
    }
}

fn json_of_source(source: &Source) -> Value {
    match source {
        Source::Tree(path) => output::path_json(path),
        Source::Local(path) => json_of_local(path),
        Source::Stdin => Value::Null,
    }
}

/// A local path as it is typed.
fn json_of_local(path: &Path) -> Value {
    let text = format!("file:{}", path.display());
    let bytes = PathBuf::from(path).into_os_string();
    match path.to_str() {
        Some(_) => json!({ "path": text }),
        None => json!({ "path": text, "path_hex": output::hex(&[b"file:", bytes.as_bytes()].concat()) }),
    }
}

impl Mv {
    fn how(&self) -> How {
        How {
            act: Act::Move,
            recursive: true,
            parallel: self.tuning.parallel.into(),
            options: Options { no_clobber: self.no_clobber, preserve: Preserve::All, no_cache: self.tuning.no_cache },
        }
    }
}
