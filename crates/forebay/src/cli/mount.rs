//! `forebay mount …`: stores in the tree.

use crate::cli::{output, place::tree_path};
use clap::{Args, Subcommand};
use forebay_base::ErrorKind;
use forebay_client::{AddedMount, Client, Error, Mount, MountChanges, MountSpec};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ffi::OsString};

/// Names that are secrets wherever they are given; they never come back.
const SECRETS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];

/// What to do with mounts.
#[derive(Debug, Subcommand)]
pub(crate) enum MountCommand {
    /// Mounts a store.
    Add(Box<Add>),
    /// Lists the mounts.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Changes a mount.
    Update(Box<Update>),
    /// Unmounts a store; nothing in it is touched.
    Remove(Remove),
}

/// Mounts a store.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Where in the tree, e.g. /lake; the directory is made if it is missing.
    path: OsString,
    /// The store: s3://bucket/prefix or file:///directory.
    uri: String,
    /// Refuses all changes.
    #[arg(long)]
    read_only: bool,
    /// How old metadata may be before the store is asked again: a duration, 0 (always ask) or never [default: 60s].
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    sync_interval: Option<String>,
    #[command(flatten)]
    options: StoreOptions,
    /// Does not check that the store answers.
    #[arg(long)]
    skip_check: bool,
    /// The mount as JSON.
    #[arg(long)]
    json: bool,
}

/// How a store is reached.
#[derive(Debug, Args)]
struct StoreOptions {
    /// The address of the store's service, e.g. `http://127.0.0.1:7070`; stands for `--option endpoint=…`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The store's region; stands for `--option region=…`.
    #[arg(long)]
    region: Option<String>,
    /// A profile of the credentials file; stands for `--option profile=…`.
    #[arg(long)]
    profile: Option<String>,
    /// Any option of the store; may be repeated. Secrets given here are kept encrypted; better leave them in the servers' environment, a profile or the machine's role.
    #[arg(short, long = "option", value_name = "KEY=VALUE", value_parser = super::key_value)]
    option: Vec<(String, String)>,
    /// Keeps the keys of this command's environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`) in the cluster, encrypted.
    #[arg(long)]
    store_credentials: bool,
}

/// Changes a mount.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Where it is mounted.
    path: OsString,
    /// Refuses all changes, or (`--read-only=false`) allows them.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    read_only: Option<bool>,
    /// Allows changes; stands for `--read-only false`.
    #[arg(long, conflicts_with = "read_only")]
    read_write: bool,
    /// How old metadata may be: a duration, 0 (always ask) or never.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    sync_interval: Option<String>,
    #[command(flatten)]
    options: StoreOptions,
    /// Removes an option; may be repeated.
    #[arg(long, value_name = "KEY")]
    unset_option: Vec<String>,
    /// Does not check that the store answers.
    #[arg(long)]
    skip_check: bool,
    /// The mount as JSON.
    #[arg(long)]
    json: bool,
}

/// Unmounts a store.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Where it is mounted.
    path: OsString,
    /// Also when data lies below that the store does not have yet: that data is lost.
    #[arg(long)]
    discard: bool,
    /// The path as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(command: MountCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        MountCommand::Add(args) => add(*args, client).await,
        MountCommand::List { json } => list(json, client).await,
        MountCommand::Update(args) => update(*args, client).await,
        MountCommand::Remove(args) => remove(args, client).await,
    }
}

async fn add(args: Add, client: &Client) -> anyhow::Result<()> {
    let (options, secrets) = args.options.collect()?;
    let spec = MountSpec {
        uri: args.uri,
        read_only: args.read_only,
        sync_interval: args.sync_interval.unwrap_or_default(),
        options,
        secrets,
    };
    let AddedMount { mount, empty } = client.add_mount(tree_path(&args.path)?, spec, args.skip_check).await?;
    if args.json {
        let mut value = to_json(&mount);
        output::merge(&mut value, json!({ "empty": empty }));
        output::line(value);
        return Ok(());
    }
    print(&mount, false);
    if empty {
        eprintln!("note: {} is empty in its store; is {} what you meant?", output::shown(&mount.path), mount.spec.uri);
    }
    Ok(())
}

async fn update(args: Update, client: &Client) -> anyhow::Result<()> {
    let (set_options, set_secrets) = args.options.collect()?;
    let changes = MountChanges {
        read_only: args.read_only.or(args.read_write.then_some(false)),
        sync_interval: args.sync_interval,
        set_options,
        unset_options: args.unset_option,
        set_secrets,
        skip_check: args.skip_check,
    };
    let mount = client.update_mount(tree_path(&args.path)?, changes).await?;
    print(&mount, args.json);
    Ok(())
}

async fn remove(args: Remove, client: &Client) -> anyhow::Result<()> {
    let path = tree_path(&args.path)?;
    client.remove_mount(path.clone(), args.discard).await?;
    if args.json {
        output::line(output::path_json(&path));
    }
    Ok(())
}

async fn list(json: bool, client: &Client) -> anyhow::Result<()> {
    let mounts = client.mounts().await?;
    if mounts.is_empty() && !json {
        eprintln!("no mounts; add one: forebay mount add /lake s3://bucket/prefix");
    }
    mounts.iter().for_each(|mount| print(mount, json));
    Ok(())
}

/// Options and secrets by name.
type Named = BTreeMap<String, String>;

impl StoreOptions {
    fn collect(self) -> anyhow::Result<(Named, Named)> {
        let short = [("endpoint", self.endpoint), ("region", self.region), ("profile", self.profile)];
        let short = short.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let (mut options, mut secrets) = (Named::new(), Named::new());
        for (key, value) in self.option.into_iter().chain(short) {
            let target = if SECRETS.contains(&key.as_str()) { &mut secrets } else { &mut options };
            if target.insert(key.clone(), value).is_some() {
                return Err(wrong_use(format!("option {key} is given twice"), "give it once"));
            }
        }
        if self.store_credentials {
            secrets.extend(credentials_of_environment("--store-credentials")?);
        }
        Ok((options, secrets))
    }
}

/// The keys that the environment has, for a flag that asks for them.
pub(crate) fn credentials_of_environment(flag: &str) -> anyhow::Result<Named> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let need = |name: &str| {
        get(name).ok_or_else(|| {
            let message = format!("{flag} needs {name} in the environment");
            wrong_use(message, "export it, or name a profile: --profile")
        })
    };
    let mut secrets = Named::from([
        ("access_key_id".to_owned(), need("AWS_ACCESS_KEY_ID")?),
        ("secret_access_key".to_owned(), need("AWS_SECRET_ACCESS_KEY")?),
    ]);
    secrets.extend(get("AWS_SESSION_TOKEN").map(|token| ("session_token".to_owned(), token)));
    Ok(secrets)
}

/// What was typed cannot be meant.
fn wrong_use(message: String, hint: &str) -> anyhow::Error {
    Error::new(ErrorKind::InvalidArgument, message).with_hint(hint).into()
}

/// One line: path, store, what is special about it.
pub(crate) fn summary(mount: &Mount) -> String {
    let spec = &mount.spec;
    let interval = if spec.sync_interval.is_empty() { "60s" } else { &spec.sync_interval };
    let mut text = format!(
        "{}  {}  {}",
        output::shown(&mount.path),
        spec.uri,
        if spec.read_only { "read-only" } else { "read-write" }
    );
    text += &format!("  sync {interval}  credentials: {}", mount.credentials);
    spec.options.iter().for_each(|(key, value)| text += &format!("  {key}={value}"));
    text
}

fn print(mount: &Mount, json: bool) {
    if json { output::line(to_json(mount)) } else { output::line(summary(mount)) }
}

/// A mount for programs.
pub(crate) fn to_json(mount: &Mount) -> Value {
    let mut value = output::path_json(&mount.path);
    let spec = &mount.spec;
    output::merge(
        &mut value,
        json!({
            "mount": mount.id.0,
            "uri": spec.uri,
            "read_only": spec.read_only,
            "sync_interval": spec.sync_interval,
            "options": spec.options,
            "credentials": mount.credentials,
        }),
    );
    value
}
