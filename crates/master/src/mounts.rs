//! The mounts as the master uses them: open stores by path.
//!
//! Made from the state's mounts whenever those change. A store that cannot be opened stays in the table with its error, so
//! that the rest of the tree goes on.

use crate::error::{Result, invalid, state_error, store_error};
use crate::freshness::SyncInterval;
use crate::secrets::{Sealer, Secrets};
use bytes::Bytes;
use forebay_base::{ByteSize, ErrorKind, HumanDuration, MountId, NsPath};
use forebay_metastore::Read;
use forebay_namespace::record::SYNC_NEVER;
use forebay_namespace::{Mount, MountSpec, query};
use forebay_proto::error::WireError;
use forebay_proto::parts::{PART_SIZE_MAX, PartSizes};
use forebay_proto::v1;
use forebay_ufs::mount_options::{
    BLOCK_SIZE, DIRECT, DIRECT_FALLBACK, DIRECT_NEVER, OF_CREDENTIALS, OF_MASTER, PAGE_SIZE, PART_SIZE, SERVE_STALE,
    canonical,
};
use forebay_ufs::{CredentialSource, OpenOptions, Ufs};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The sync interval of a mount that says none.
const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// Mounts that were removed whose stores stay open.
const REMOVED_MAX: usize = 64;
/// Parts of an upload that S3 takes.
const S3_PARTS_MAX: u32 = 10_000;

/// One mount in use.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) record: Mount,
    pub(crate) path: NsPath,
    secrets: Secrets,
    store: std::result::Result<Arc<dyn Ufs>, WireError>,
}

impl Mounted {
    fn open(record: Mount, sealer: &Sealer) -> Mounted {
        let path = NsPath::parse(&record.path).unwrap_or_else(|_| NsPath::root());
        let unsealed = unseal(&record.path, &record.spec, sealer);
        let store = unsealed.as_ref().map_err(Clone::clone).and_then(|secrets| open_store(&record.spec, secrets));
        if let Err(error) = &store {
            tracing::error!(mount = %path, %error, "the store of a mount cannot be opened");
        }
        Mounted { path, secrets: unsealed.unwrap_or_default(), store, record }
    }

    pub(crate) fn id(&self) -> MountId {
        MountId(self.record.id)
    }

    /// The store, or why there is none.
    pub(crate) fn store(&self) -> Result<&Arc<dyn Ufs>> {
        self.store.as_ref().map_err(Clone::clone)
    }

    pub(crate) fn interval(&self) -> SyncInterval {
        interval_of(&self.record.spec)
    }

    /// Whether an answer may be old when the store gives none.
    pub(crate) fn serves_stale(&self) -> bool {
        self.record.spec.options.get(SERVE_STALE).is_some_and(|value| value == "true")
    }

    /// Refuses clients that want to read from the store itself, where the mount says so.
    pub(crate) fn check_direct_reads(&self) -> Result<()> {
        if self.record.spec.options.get(DIRECT).is_none_or(|value| value != DIRECT_NEVER) {
            return Ok(());
        }
        Err(invalid(
            format!("clients must not read from the store of {} (option {DIRECT}={DIRECT_NEVER})", self.path),
            format!("allow it: forebay mount update {} --option {DIRECT}={DIRECT_FALLBACK}", self.path),
        ))
    }

    /// What the mount says of the size of parts.
    pub(crate) fn part_size(&self) -> Option<u64> {
        let text = self.record.spec.options.get(PART_SIZE)?;
        text.parse::<ByteSize>().ok().map(ByteSize::bytes)
    }

    /// The key of a path at or below the mount point.
    pub(crate) fn key(&self, path: &NsPath) -> Bytes {
        path.below(&self.path).map_or_else(Bytes::new, Bytes::copy_from_slice)
    }

    /// The path of a key.
    pub(crate) fn path_of_key(&self, key: &[u8]) -> Result<NsPath> {
        let path = [self.path.as_bytes(), b"/", key].concat();
        NsPath::parse(&path).map_err(crate::error::path_error)
    }

    /// Refuses what a read-only mount does not take.
    pub(crate) fn check_writable(&self, path: &NsPath) -> Result<()> {
        if !self.record.spec.read_only {
            return Ok(());
        }
        Err(WireError::new(
            ErrorKind::PermissionDenied,
            format!("{path} lies in {}, which is mounted read-only", self.path),
        )
        .with_hint(format!("forebay mount update {} --read-only=false, if it should be writable", self.path)))
    }

    /// Whether the store can have an object of that key at all.
    pub(crate) fn can_hold(&self, key: &[u8]) -> Result<bool> {
        Ok(self.store()?.capabilities().any_byte_names || std::str::from_utf8(key).is_ok())
    }

    /// Refuses names that the store cannot hold.
    pub(crate) fn check_name(&self, path: &NsPath) -> Result<()> {
        if self.can_hold(&self.key(path))? {
            return Ok(());
        }
        Err(invalid(
            format!("{path:?} cannot be stored in {}: its names must be UTF-8", self.record.spec.uri),
            "choose another name",
        ))
    }

    /// As users see it.
    pub(crate) fn entry(&self) -> v1::MountEntry {
        v1::MountEntry {
            mount: self.record.id,
            path: self.path.to_bytes(),
            spec: Some(spec_to_wire(&self.record.spec)),
            credentials: credentials_in_words(&self.record.spec, &self.secrets),
        }
    }

    /// As workers need it: with the secrets.
    pub(crate) fn for_worker(&self) -> v1::WorkerMount {
        v1::WorkerMount {
            mount: self.record.id,
            spec: Some(v1::MountSpec {
                secrets: self.secrets.0.clone().into_iter().collect(),
                ..spec_to_wire(&self.record.spec)
            }),
        }
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

/// How long a comparison with the store holds.
pub(crate) fn interval_of(spec: &MountSpec) -> SyncInterval {
    match spec.sync_interval_ms {
        0 => SyncInterval::Always,
        SYNC_NEVER => SyncInterval::Never,
        ms => SyncInterval::After(Duration::from_millis(ms)),
    }
}

/// Opens the stored secrets of a mount.
fn unseal(path: &[u8], spec: &MountSpec, sealer: &Sealer) -> Result<Secrets> {
    if spec.sealed_secrets.is_empty() {
        return Ok(Secrets::default());
    }
    sealer.unseal(path, &spec.sealed_secrets).map_err(|error| WireError::new(ErrorKind::Corrupt, error.to_string()))
}

/// The store of a specification; says what is wrong with its options.
pub(crate) fn open_store(spec: &MountSpec, secrets: &Secrets) -> Result<Arc<dyn Ufs>> {
    let options = open_options(spec, secrets)?;
    forebay_ufs::open(&spec.uri, &options).map_err(store_error)
}

fn open_options(spec: &MountSpec, secrets: &Secrets) -> Result<OpenOptions> {
    let text = |(name, value): (&'_ String, &'_ String)| (name.clone(), value.clone());
    let options: Vec<_> = spec.options.iter().map(text).collect();
    let secrets: Vec<_> = secrets.0.iter().map(text).collect();
    fn pairs(all: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
        all.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
    OpenOptions::from_mount(&spec.uri, pairs(&options), pairs(&secrets)).map_err(store_error)
}

/// Reads what the master itself takes from the options of a mount, so that bad values are refused when they are given.
pub(crate) fn spec_from_wire(spec: v1::MountSpec) -> Result<MountSpec> {
    let mut out = MountSpec {
        uri: spec.uri,
        read_only: spec.read_only,
        sync_interval_ms: parse_interval(&spec.sync_interval)?,
        options: spec.options.into_iter().map(|(name, value)| (canonical(&name), value)).collect(),
        ..MountSpec::default()
    };
    apply_own_options(&mut out)?;
    Ok(out)
}

/// Says which of our own options a misspelt one may be; what the store says of its options is the better answer otherwise.
pub(crate) fn suggest_own(spec: &MountSpec, error: WireError) -> WireError {
    let ours = || OF_MASTER.iter().chain(&OF_CREDENTIALS);
    let near =
        spec.options.keys().flat_map(|name| ours().map(move |own| (strsim::jaro_winkler(name, own), *own, name)));
    let near = near.filter(|(score, own, name)| *score >= 0.85 && own != name);
    let near = near.filter(|(_, _, name)| error.message.contains(&format!("unknown option {name:?}")));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, own, _)) if !error.hint.starts_with("did you mean") => error.with_hint(format!("did you mean {own}?")),
        _ => error,
    }
}

/// Checks our own options and takes the sizes from them.
pub(crate) fn apply_own_options(spec: &mut MountSpec) -> Result<()> {
    let size = |name: &str, options: &BTreeMap<String, String>| -> Result<u64> {
        let Some(text) = options.get(name) else {
            return Ok(0);
        };
        text.parse::<ByteSize>().map(ByteSize::bytes).map_err(|error| invalid(format!("option {name}: {error}"), ""))
    };
    let (block, page) = (size(BLOCK_SIZE, &spec.options)?, size(PAGE_SIZE, &spec.options)?);
    if spec.options.contains_key(PART_SIZE) {
        check_part_size(size(PART_SIZE, &spec.options)?)?;
    }
    let page = check_sizes(block, page)?;
    for (name, allowed) in [(SERVE_STALE, ["true", "false"]), (DIRECT, [DIRECT_FALLBACK, DIRECT_NEVER])] {
        if let Some(value) = spec.options.get(name)
            && !allowed.contains(&value.as_str())
        {
            let hint = format!("allowed are {}", allowed.join(" and "));
            return Err(invalid(format!("option {name} has the value {value:?}"), hint));
        }
    }
    spec.block_size = block;
    spec.page_size = page;
    Ok(())
}

/// A part is sent as one body.
pub(crate) fn check_part_size(part: u64) -> Result<()> {
    if (1..=PART_SIZE_MAX).contains(&part) {
        return Ok(());
    }
    let largest = ByteSize(PartSizes::new(PART_SIZE_MAX).length_max(S3_PARTS_MAX));
    Err(invalid(
        format!("option {PART_SIZE}: a part of {} cannot be sent", ByteSize(part)),
        format!(
            "{} at most; parts grow by themselves, so that S3 takes files of {largest} then",
            ByteSize(PART_SIZE_MAX)
        ),
    ))
}

/// Pages are powers of two of at least a checksum's chunk, blocks whole pages.
pub(crate) fn check_sizes(block: u64, page: u64) -> Result<u32> {
    use forebay_namespace::record::{BLOCK_SIZE_DEFAULT, PAGE_SIZE_DEFAULT};
    let hint = "pages are powers of two from 16KiB to 64MiB, blocks whole pages: give both block_size and page_size";
    let page = u32::try_from(page).map_err(|_| invalid(format!("a page of {} cannot be", ByteSize(page)), hint))?;
    let page_used = if page == 0 { PAGE_SIZE_DEFAULT } else { page };
    let block_used = if block == 0 { BLOCK_SIZE_DEFAULT } else { block };
    forebay_namespace::check_sizes(block_used, page_used).map_err(|refusal| invalid(refusal.message, hint))?;
    Ok(page)
}

/// A duration, `0` or `never`; empty is the default.
pub(crate) fn parse_interval(text: &str) -> Result<u64> {
    match text {
        "" => Ok(SYNC_INTERVAL_DEFAULT.as_millis() as u64),
        "never" => Ok(SYNC_NEVER),
        _ => text
            .parse::<HumanDuration>()
            .map(|duration| u64::try_from(duration.0.as_millis()).unwrap_or(SYNC_NEVER - 1))
            .map_err(|error| {
                invalid(format!("sync interval: {error}"), "write a duration as 60s, 0 to ask always, or never")
            }),
    }
}

fn spec_to_wire(spec: &MountSpec) -> v1::MountSpec {
    v1::MountSpec {
        uri: spec.uri.clone(),
        read_only: spec.read_only,
        sync_interval: match spec.sync_interval_ms {
            0 => "0".to_owned(),
            SYNC_NEVER => "never".to_owned(),
            ms => HumanDuration(Duration::from_millis(ms)).to_string(),
        },
        options: spec.options.clone().into_iter().collect(),
        ..v1::MountSpec::default()
    }
}

/// Where the credentials come from, without any of them.
fn credentials_in_words(spec: &MountSpec, secrets: &Secrets) -> String {
    if spec.uri.starts_with("file:") || spec.uri.starts_with("memory:") {
        return "none needed".to_owned();
    }
    if secrets.0.is_empty() && !spec.sealed_secrets.is_empty() {
        return "stored, and cannot be decrypted: give them again with forebay mount update".to_owned();
    }
    match open_options(spec, secrets).map(|options| options.credentials) {
        Ok(CredentialSource::Automatic) => "automatic".to_owned(),
        Ok(CredentialSource::Environment) => "environment".to_owned(),
        Ok(CredentialSource::Profile(profile)) => format!("profile {profile}"),
        Ok(CredentialSource::File { path, profile }) => {
            format!("file {} (profile {profile})", path.display())
        }
        Ok(CredentialSource::InstanceMetadata) => "instance metadata".to_owned(),
        // The first letters tell which key it is and are of no use to anyone.
        Ok(CredentialSource::Keys(keys)) => {
            let start: String = keys.access_key_id.chars().take(4).collect();
            format!("stored ({start}…)")
        }
        Ok(CredentialSource::Anonymous) => "anonymous".to_owned(),
        Err(_) if !spec.sealed_secrets.is_empty() => "stored, unreadable".to_owned(),
        Err(_) => "invalid".to_owned(),
    }
}

/// All mounts.
#[derive(Debug)]
pub(crate) struct MountTable {
    sealer: Sealer,
    mounts: RwLock<Arc<Vec<Arc<Mounted>>>>,
    /// Held while the table is made anew, from looking at the state on: an older look never replaces what a newer one has made.
    refreshing: Mutex<()>,
    /// The last ones that were removed, the newest last.
    removed: Mutex<VecDeque<Arc<Mounted>>>,
}

impl MountTable {
    pub(crate) fn new(sealer: Sealer) -> MountTable {
        MountTable { sealer, mounts: RwLock::default(), refreshing: Mutex::default(), removed: Mutex::default() }
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Makes the table anew from the state, as `look` finds it; stores whose mount did not change stay open.
    pub(crate) fn refresh<R: Read>(&self, look: impl FnOnce() -> R) -> Result<()> {
        let _refreshing = self.refreshing.lock();
        let records = query::mounts(&look()).map_err(state_error)?;
        let before = self.all();
        let mounts = records
            .into_iter()
            .map(|record| {
                let known = before.iter().find(|mount| mount.record == record);
                known.cloned().unwrap_or_else(|| Arc::new(Mounted::open(record, &self.sealer)))
            })
            .collect();
        *self.mounts.write() = Arc::new(mounts);
        Ok(())
    }

    /// Keeps the store of a mount that is about to be removed for what has to be done there afterwards.
    pub(crate) fn keep_removed(&self, mount: Arc<Mounted>) {
        let mut removed = self.removed.lock();
        removed.push_back(mount);
        if removed.len() > REMOVED_MAX {
            removed.pop_front();
        }
    }

    /// The one of that number, also when it was removed since this master leads, not too many removals ago.
    pub(crate) fn get_or_removed(&self, id: MountId) -> Option<Arc<Mounted>> {
        self.get(id).or_else(|| self.removed.lock().iter().find(|mount| mount.id() == id).cloned())
    }

    /// All, by number.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Mounted>>> {
        Arc::clone(&*self.mounts.read())
    }

    /// The one of that number.
    pub(crate) fn get(&self, id: MountId) -> Option<Arc<Mounted>> {
        self.all().iter().find(|mount| mount.id() == id).cloned()
    }

    /// The one that a path lies in: of nested ones the innermost.
    pub(crate) fn of(&self, path: &NsPath) -> Option<Arc<Mounted>> {
        self.all().iter().filter(|mount| path.starts_with(&mount.path)).max_by_key(|mount| mount.path.depth()).cloned()
    }

    /// Whether a mount lies below a path.
    pub(crate) fn any_below(&self, path: &NsPath) -> bool {
        self.all().iter().any(|mount| mount.path != *path && mount.path.starts_with(path))
    }

    /// The mount at exactly that path; says which one may have been meant.
    pub(crate) fn at(&self, path: &NsPath) -> Result<Arc<Mounted>> {
        let mounts = self.all();
        if let Some(mount) = mounts.iter().find(|mount| mount.path == *path) {
            return Ok(Arc::clone(mount));
        }
        let error = WireError::new(ErrorKind::NotFound, format!("mount not found: {path}"));
        let near = mounts
            .iter()
            .map(|mount| (mount.path.to_string(), &mount.path))
            .map(|(text, _)| (strsim::jaro_winkler(&text, &path.to_string()), text))
            .filter(|(score, _)| *score >= 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        Err(error.with_hint(match near {
            Some((_, text)) => format!("did you mean {text}?"),
            None => "forebay mount list shows the mounts".to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_metastore::{MemStore, Snapshot, Store};
    use forebay_namespace::command::AddMount;
    use forebay_namespace::{Command, StateMachine};
    use std::sync::mpsc;

    fn record(id: u32, path: &str) -> Arc<Mounted> {
        let record = Mount {
            id,
            path: Bytes::copy_from_slice(path.as_bytes()),
            spec: MountSpec { uri: format!("memory://mounts-{id}"), ..MountSpec::default() },
            ..Mount::default()
        };
        Arc::new(Mounted::open(record, &Sealer::new(&[1; 32])))
    }

    fn table(paths: &[&str]) -> MountTable {
        let table = MountTable::new(Sealer::new(&[1; 32]));
        let mounts = (1..).zip(paths).map(|(id, path)| record(id, path));
        *table.mounts.write() = Arc::new(mounts.collect());
        table
    }

    #[test]
    fn credentials_that_cannot_be_decrypted_are_told() {
        let secrets = Secrets(BTreeMap::from([
            ("access_key_id".to_owned(), "AKIAEXAMPLE".to_owned()),
            ("secret_access_key".to_owned(), "hunter2".to_owned()),
        ]));
        let path = Bytes::from_static(b"/lake");
        let sealed_secrets = Sealer::new(&[1; 32]).seal(&path, &secrets).into();
        let spec = MountSpec { uri: "s3://bucket".to_owned(), sealed_secrets, ..MountSpec::default() };
        let record = Mount { id: 1, path, spec, ..Mount::default() };
        let of = |key| Mounted::open(record.clone(), &Sealer::new(&[key; 32])).entry().credentials;
        assert!(of(1).starts_with("stored") && !of(1).contains("decrypted"), "{}", of(1));
        assert!(of(2).contains("cannot be decrypted"), "{}", of(2));
    }

    #[test]
    fn the_innermost_mount_counts() {
        let table = table(&["/lake", "/lake/raw", "/lakes"]);
        let of = |path: &str| table.of(&path.parse().unwrap()).map(|m| m.path.to_string());
        assert_eq!(of("/lake/x").as_deref(), Some("/lake"));
        assert_eq!(of("/lake/raw").as_deref(), Some("/lake/raw"));
        assert_eq!(of("/lake/raw/x/y").as_deref(), Some("/lake/raw"));
        assert_eq!(of("/lake/rawer").as_deref(), Some("/lake"));
        assert_eq!(of("/other"), None);
        assert!(table.any_below(&"/lake".parse().unwrap()));
        assert!(!table.any_below(&"/lakes".parse().unwrap()));
        let mount = table.of(&"/lake/raw/a b".parse().unwrap()).unwrap();
        assert_eq!(&mount.key(&"/lake/raw/a b".parse().unwrap())[..], b"a b");
        assert_eq!(mount.path_of_key(b"a b").unwrap(), "/lake/raw/a b".parse().unwrap());
    }

    /// A state with so many mounts.
    fn state_with(mounts: u32) -> Snapshot {
        let store: Arc<dyn Store> = Arc::new(MemStore::new());
        let mut machine = StateMachine::open(Arc::clone(&store)).unwrap();
        for at in 1..=mounts {
            let spec = MountSpec { uri: format!("memory://table-{at}"), ..MountSpec::default() };
            let path = Bytes::from(format!("/{at}"));
            let command = Command::internal(1, AddMount { path, spec, mode: 0o755, ..AddMount::default() });
            machine.apply(&[(Bytes::from(at.to_string()), command.to_bytes())]).unwrap();
        }
        store.snapshot()
    }

    #[test]
    fn an_older_look_at_the_state_does_not_win() {
        let table = Arc::new(table(&[]));
        let newer = Arc::clone(&table);
        let (older_looked, looked) = mpsc::channel();
        let (newer_done, done) = mpsc::channel();
        let newer = std::thread::spawn(move || {
            looked.recv().unwrap();
            newer.refresh(|| state_with(2)).unwrap();
            let _ = newer_done.send(());
        });
        let older = || {
            let older = state_with(1);
            older_looked.send(()).unwrap();
            // Were nothing held, the newer one would be done first.
            let _ = done.recv_timeout(Duration::from_millis(300));
            older
        };
        table.refresh(older).unwrap();
        newer.join().unwrap();
        assert_eq!(table.all().len(), 2);
    }

    #[test]
    fn a_wrong_path_gets_a_suggestion() {
        let table = table(&["/lake", "/archive"]);
        let error = table.at(&"/lakee".parse().unwrap()).unwrap_err();
        assert_eq!((error.message.as_str(), error.hint.as_str()), ("mount not found: /lakee", "did you mean /lake?"));
    }

    #[test]
    fn intervals_and_sizes_are_checked() {
        assert_eq!(parse_interval("").unwrap(), 60_000);
        assert_eq!(parse_interval("0").unwrap(), 0);
        assert_eq!(parse_interval("never").unwrap(), SYNC_NEVER);
        assert_eq!(parse_interval("5m").unwrap(), 300_000);
        assert!(parse_interval("often").is_err());
        assert!(check_part_size(0).is_err() && check_part_size((64 << 20) + 1).is_err());
        check_part_size(64 << 20).unwrap();
        assert!(check_sizes(0, 3 << 20).is_err());
        assert!(check_sizes(1 << 40, 128 << 20).is_err());
        assert!(check_sizes(3 << 20, 2 << 20).is_err());
        assert_eq!(check_sizes(4 << 20, 2 << 20).unwrap(), 2 << 20);
    }
}
