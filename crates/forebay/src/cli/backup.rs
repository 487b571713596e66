//! `forebay backup …`: copies of the masters' state in a store.

use crate::cli::{self, mount, output, progress::Progress};
use crate::config::Settings;
use anyhow::Context;
use clap::{Args, Subcommand};
use forebay_backup::{BackupError, Listed, Manifest, Target, Verified};
use forebay_base::{ByteSize, ErrorKind, TimestampMs};
use forebay_client::{BackupMade, BackupTarget, Client, Error};
use forebay_ufs::{OpenOptions, mount_options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Has the masters make a backup, while they serve.
    Create(Create),
    /// Lists the backups in a directory of a store; needs no masters.
    List {
        #[command(flatten)]
        target: TargetArgs,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Reads every byte of a backup, compares all checksums, and opens the state; needs no masters.
    Verify(Verify),
}

/// Where backups lie.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// A directory of a store: s3://bucket/prefix or file:///directory [default: `backup.to` of the configuration].
    #[arg(long, value_name = "URI")]
    to: Option<String>,
    /// The address of the store's service, e.g. `http://127.0.0.1:7070`; stands for `--option endpoint=…`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The store's region; stands for `--option region=…`.
    #[arg(long)]
    region: Option<String>,
    /// A profile of the credentials file; stands for `--option profile=…`.
    #[arg(long)]
    profile: Option<String>,
    /// Any option of the store, as of a mount; may be repeated.
    #[arg(short, long = "option", value_name = "KEY=VALUE", value_parser = super::key_value)]
    option: Vec<(String, String)>,
}

/// Makes a backup.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    target: TargetArgs,
    /// Sends also the files that are there from earlier backups.
    #[arg(long)]
    full: bool,
    /// Removes the oldest backups of this cluster there, but for the newest N.
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Gives the masters the keys of this command's environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`) for this backup; they use their own otherwise.
    #[arg(long)]
    send_credentials: bool,
    /// The backup as JSON.
    #[arg(long)]
    json: bool,
}

/// Checks a backup.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Which one; the newest, if none is named.
    id: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Where there is room for a copy of the state [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// What was found as JSON.
    #[arg(long)]
    json: bool,
}

type Named = BTreeMap<String, String>;

impl TargetArgs {
    /// URI, options and secrets.
    fn resolve(&self, settings: &Settings) -> anyhow::Result<(String, Named, Named)> {
        let configured = &settings.backup;
        let uri = match &self.to {
            Some(uri) => uri.clone(),
            None if configured.to.is_empty() => {
                let error = Error::new(ErrorKind::InvalidArgument, "it is not said where the backups lie");
                return Err(error.with_hint("name a directory of a store with --to, or set backup.to").into());
            }
            None => configured.to.clone(),
        };
        let mut all = Named::new();
        // What the settings say of their target says nothing of another one.
        if uri == configured.to {
            all.extend(configured.options.iter().filter_map(|text| cli::key_value(text).ok()));
        }
        all.extend(self.option.iter().cloned());
        for (name, value) in [("endpoint", &self.endpoint), ("region", &self.region), ("profile", &self.profile)] {
            all.extend(value.clone().map(|value| (name.to_owned(), value)));
        }
        let all = all.into_iter().map(|(name, value)| (mount_options::canonical(&name), value));
        let (secrets, options) = all.partition(|(name, _)| mount_options::SECRETS.contains(&name.as_str()));
        Ok((uri, options, secrets))
    }

    /// The target as this host reaches it.
    fn open(&self, settings: &Settings) -> anyhow::Result<Target> {
        let (uri, options, secrets) = self.resolve(settings)?;
        open(&uri, &options, &secrets)
    }
}

fn open(uri: &str, options: &Named, secrets: &Named) -> anyhow::Result<Target> {
    fn pairs(named: &Named) -> impl Iterator<Item = (&str, &str)> {
        named.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    let options = OpenOptions::from_mount(uri, pairs(options), pairs(secrets)).map_err(|error| told(error.into()))?;
    Target::open(uri, &options).map_err(told)
}

/// As an error of the masters is told.
pub(crate) fn told(error: BackupError) -> anyhow::Error {
    Error::new(error.kind(), error.to_string()).with_hint(error.hint()).into()
}

/// Makes a backup.
pub(crate) async fn create(args: Create, settings: &Settings, client: &Client) -> anyhow::Result<()> {
    let (uri, options, mut secrets) = args.target.resolve(settings)?;
    if args.send_credentials {
        secrets.extend(mount::credentials_of_environment("--send-credentials")?);
    }
    let bar = Bar::new(args.json);
    let target = BackupTarget { uri: uri.clone(), options, secrets };
    let made = client.create_backup(target, args.full, args.keep.unwrap_or(0), |now| bar.at(now.done, now.total)).await;
    bar.finish();
    let made = made?;
    match args.json {
        true => output::line(made_json(&made)),
        false => {
            output::line(format_args!("backup {} is in {uri}", made.id));
            output::line(format_args!(
                "  {} inodes, entry {}, {} in {} files, of which {} in {} were sent",
                made.inodes,
                made.index,
                ByteSize(made.bytes),
                made.files,
                ByteSize(made.sent_bytes),
                made.sent_files
            ));
            if made.removed_backups > 0 {
                output::line(format_args!("  {} older ones were removed", made.removed_backups));
            }
        }
    }
    Ok(())
}

/// Lists backups.
pub(crate) async fn list(target: &TargetArgs, json: bool, settings: &Settings) -> anyhow::Result<()> {
    let target = target.open(settings)?;
    for listed in forebay_backup::list(&target).await.map_err(told)? {
        match json {
            true => output::line(listed_json(&listed)),
            false => output::line(listed_line(&listed)),
        }
    }
    Ok(())
}

fn listed_line(listed: &Listed) -> String {
    match &listed.manifest {
        Ok(manifest) => format!(
            "{}  {}  cluster {}  {} inodes  entry {}  {}  version {}",
            listed.id,
            output::time(TimestampMs(manifest.created_ms)),
            listed.cluster,
            manifest.inodes,
            manifest.index,
            ByteSize(manifest.bytes()),
            manifest.version
        ),
        Err(error) => format!("{}  cluster {}  cannot be used: {error}", listed.id, listed.cluster),
    }
}

fn listed_json(listed: &Listed) -> Value {
    match &listed.manifest {
        Ok(manifest) => manifest_json(manifest),
        Err(error) => json!({ "id": listed.id.as_str(), "cluster": listed.cluster, "error": error.to_string() }),
    }
}

fn manifest_json(manifest: &Manifest) -> Value {
    json!({
        "id": manifest.id.as_str(),
        "cluster": manifest.cluster,
        "created_ms": manifest.created_ms,
        "version": manifest.version,
        "term": manifest.term,
        "index": manifest.index,
        "inodes": manifest.inodes,
        "files": manifest.files.len(),
        "bytes": manifest.bytes(),
    })
}

fn made_json(made: &BackupMade) -> Value {
    json!({
        "id": made.id,
        "cluster": made.cluster,
        "created_ms": made.created.0,
        "index": made.index,
        "inodes": made.inodes,
        "files": made.files,
        "bytes": made.bytes,
        "sent_files": made.sent_files,
        "sent_bytes": made.sent_bytes,
        "removed_backups": made.removed_backups,
    })
}

/// Checks a backup.
pub(crate) async fn verify(args: Verify, settings: &Settings) -> anyhow::Result<()> {
    let target = args.target.open(settings)?;
    let manifest = forebay_backup::find(&target, args.id.as_deref()).await.map_err(told)?;
    let parent = args.scratch.unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new().prefix("forebay-verify-").tempdir_in(&parent);
    let scratch = scratch.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    let bar = Bar::new(args.json);
    let verified = forebay_backup::verify(&target, &manifest, scratch.path(), &|now| bar.at(now.done, now.total)).await;
    bar.finish();
    let Verified { inodes, rows } = verified.map_err(told)?;
    match args.json {
        true => {
            let mut value = manifest_json(&manifest);
            output::merge(&mut value, json!({ "rows": rows }));
            output::line(value);
        }
        false => output::line(format_args!(
            "backup {} is good: {} in {} files, {inodes} inodes in {rows} rows, entry {}",
            manifest.id,
            ByteSize(manifest.bytes()),
            manifest.files.len(),
            manifest.index
        )),
    }
    Ok(())
}

/// A bar of which the whole is known at once.
struct Bar {
    progress: Progress,
    shown: Mutex<(u64, u64)>,
}

impl Bar {
    fn new(quiet: bool) -> Bar {
        Bar { progress: Progress::new(quiet), shown: Mutex::new((0, 0)) }
    }

    fn at(&self, done: u64, total: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress.expect(total.saturating_sub(shown.1));
        self.progress.done(done.saturating_sub(shown.0));
        *shown = (done.max(shown.0), total.max(shown.1));
    }

    fn finish(&self) {
        self.progress.finish();
    }
}
