//! From file, environment and flags to one [`Settings`], with the source of each value.

#![allow(clippy::result_large_err, reason = "errors are made once a mistake, at the start of the process")]

use super::{
    Settings,
    conflicts::{self, Conflict},
    keys::{self, Key},
    limits, paths,
    shown::shown,
    values,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};
use toml::{Table, Value, de::DeTable};

/// Where the value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    /// The file is no TOML.
    #[error("{path} is not TOML: {reason}")]
    NotToml { path: PathBuf, reason: String },
    /// Nothing of that name can be set.
    #[error("unknown setting {key} ({origin}){}", suggestion.as_ref().map_or(String::new(), |s| format!("; did you mean {s}?")))]
    UnknownKey { key: String, origin: Source, suggestion: Option<String> },
    /// The value does not fit.
    #[error("bad value for {key} ({origin}): {value}: {reason}{}", allowed_text(allowed))]
    BadValue { key: String, value: String, origin: Source, reason: String, allowed: Vec<String> },
}

fn allowed_text(allowed: &[String]) -> String {
    if allowed.is_empty() { String::new() } else { format!("; allowed: {}", allowed.join(", ")) }
}

/// The effective settings and where each comes from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What holds.
    pub(crate) settings: Settings,
    /// The source of every key that somebody set.
    pub(crate) sources: BTreeMap<String, Source>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Variables that look like settings but are none. Not errors: Kubernetes puts `FOREBAY_…_PORT` of its services there.
    pub(crate) unknown_variables: Vec<ConfigError>,
    /// What was made of relative paths.
    pub(crate) notes: Vec<String>,
}

impl ConfigError {
    fn is_of(&self, keys: &BTreeSet<String>) -> bool {
        matches!(self, ConfigError::BadValue { key, .. } if keys.contains(setting(key)))
    }
}

impl Config {
    /// Directories of tiers that meet behind links (*blocking*: it looks at the disks).
    pub(crate) fn conflicts_behind_links(&self) -> Vec<ConfigError> {
        conflict_errors(conflicts::behind_links(&self.settings), &self.sources, &BTreeSet::new()).collect()
    }

    /// What keeps a server from starting though each setting is good and commands may go by them: directories of tiers that meet behind links, and a master that
    /// is not in its own list (*blocking*: it looks at the disks).
    pub(crate) fn keeps_server_from_starting(&self) -> Vec<ConfigError> {
        let outside = conflicts::outside_of_masters(&self.settings).into_iter();
        self.conflicts_behind_links()
            .into_iter()
            .chain(conflict_errors(outside.collect(), &self.sources, &BTreeSet::new()))
            .collect()
    }

    /// Whether somebody has said that a server is to run with these settings; else they may be those of a client, for which the roles have no meaning.
    pub(crate) fn is_of_server(&self) -> bool {
        self.sources.keys().any(|key| key == "roles" || key.starts_with("master.") || key.starts_with("worker."))
    }

    /// Where the value of `key` comes from.
    pub(crate) fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }
}

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config FILE`.
    pub(crate) file: Option<PathBuf>,
    /// `--set KEY=VALUE` and the flags that stand for one key: (flag, key, value).
    pub(crate) values: Vec<(String, String, String)>,
}

/// A value on its way into the settings.
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Source,
}

/// Reads all layers. Every error found is reported, not just the first.
pub(crate) fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Vec<ConfigError>> {
    let known = keys::all();
    let environment: BTreeMap<String, String> =
        environment.into_iter().filter(|(name, _)| name.starts_with("FOREBAY_")).collect();
    let file = flags.file.clone().or_else(|| environment.get("FOREBAY_CONFIG").map(PathBuf::from));
    let mut errors = Vec::new();
    let mut assignments = Vec::new();
    if let Some(path) = &file {
        match read_file(path) {
            Ok(table) => assignments.extend(from_file(path, table)),
            Err(found) => errors.extend(found),
        }
    }
    let mut unknown_variables = Vec::new();
    assignments.extend(from_environment(&environment, &known, &mut unknown_variables));
    assignments.extend(flags.values.iter().map(|(flag, key, value)| Assignment {
        key: key.clone(),
        value: parse_value(value),
        origin: Source::Flag(flag.clone()),
    }));
    let mut merged = Table::new();
    let mut sources = BTreeMap::new();
    // Keys with a value that cannot be read: what the default of these would make of the others is of no interest.
    let mut unread = BTreeSet::new();
    let mut overridden = None;
    for assignment in assignments {
        match values::check(&assignment, &known) {
            Ok(value) => {
                if assignment.key == "masters" {
                    overridden =
                        masters_beaten(sources.get("masters"), merged.get("masters"), &assignment.origin, &value);
                }
                insert(&mut merged, &assignment.key, value);
                sources.insert(assignment.key, assignment.origin);
            }
            Err(found) => {
                errors.extend(found);
                unread.insert(assignment.key);
            }
        }
    }
    let mut settings = match Settings::deserialize_table(merged) {
        Ok(settings) => settings,
        Err(reason) => {
            let (key, value, origin) = ("settings".into(), String::new(), Source::Default);
            errors.push(ConfigError::BadValue { key, value, origin, reason, allowed: vec![] });
            return Err(errors);
        }
    };
    let mut notes = paths::resolve(&mut settings, &sources);
    notes.extend(overridden);
    let masters = settings.masters.len();
    if settings.roles.contains(&super::Role::Master) && masters > 0 && masters.is_multiple_of(2) {
        notes.push(format!(
            "masters names {masters}: a group of an even number outlives no more losses than one of {}",
            masters - 1
        ));
    }
    errors.extend(limit_errors(&settings, &sources).into_iter().filter(|error| !error.is_of(&unread)));
    errors.extend(conflict_errors(conflicts::check(&settings), &sources, &unread));
    match errors.is_empty() {
        true => Ok(Config { settings, sources, file, unknown_variables, notes }),
        false => Err(errors),
    }
}

/// A list of masters in the environment in place of another one in the file: an easy thing to forget, and the wrong masters are asked then.
fn masters_beaten(before: Option<&Source>, old: Option<&Value>, origin: &Source, new: &Value) -> Option<String> {
    let (Some(Source::File(file)), Some(old), Source::Environment(variable)) = (before, old, origin) else {
        return None;
    };
    (old != new).then(|| format!("{variable} ({new}) takes the place of masters in {} ({old})", file.display()))
}

/// The setting that a path within it belongs to: `worker.tiers` of `worker.tiers[0].kind`.
fn setting(key: &str) -> &str {
    key.split('[').next().unwrap_or(key)
}

fn conflict_errors(
    found: Vec<Conflict>,
    sources: &BTreeMap<String, Source>,
    unread: &BTreeSet<String>,
) -> impl Iterator<Item = ConfigError> {
    let of_read =
        |conflict: &Conflict| ![&conflict.key, &conflict.with].iter().any(|key| unread.contains(setting(key)));
    found.into_iter().filter(of_read).map(|Conflict { key, value, reason, .. }| ConfigError::BadValue {
        origin: sources.get(setting(&key)).cloned().unwrap_or(Source::Default),
        key,
        value,
        reason,
        allowed: vec![],
    })
}

fn limit_errors(settings: &Settings, sources: &BTreeMap<String, Source>) -> Vec<ConfigError> {
    let values = Value::try_from(settings).unwrap_or_else(|_| Value::Table(Table::new()));
    let error = |(key, reason): (&str, String)| ConfigError::BadValue {
        key: key.to_owned(),
        value: key
            .split('.')
            .try_fold(&values, |value, name| value.get(name))
            .map(|value| shown(key, value))
            .unwrap_or_default(),
        origin: sources.get(key).cloned().unwrap_or(Source::Default),
        reason,
        allowed: vec![],
    };
    limits::check(settings).into_iter().map(error).collect()
}

impl Settings {
    pub(super) fn deserialize_table(table: Table) -> Result<Settings, String> {
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| error.to_string())
    }
}

/// So many places of a file that is no TOML are told.
const PLACES_MAX: usize = 20;

fn read_file(path: &Path) -> Result<Table, Vec<ConfigError>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![ConfigError::Unreadable { path: path.into(), reason: error.to_string() }])?;
    text.parse::<Table>().map_err(|first| {
        let (_, mut found) = DeTable::parse_recoverable(&text);
        found.truncate(PLACES_MAX);
        if found.is_empty() {
            found.push(first);
        }
        let told = found.iter().map(|error| no_toml(&text, error));
        told.map(|reason| ConfigError::NotToml { path: path.into(), reason }).collect()
    })
}

/// Where the text is no TOML, and why. Not the line itself: there may be a secret in it.
fn no_toml(text: &str, error: &toml::de::Error) -> String {
    let reason = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return reason.to_owned();
    };
    let (line, last) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
    format!("line {line}, column {}: {reason}", last.chars().count() + 1)
}

/// The leaves of the file: tables one level down are groups, anything below is a value.
fn from_file(path: &Path, table: Table) -> Vec<Assignment> {
    let origin = || Source::File(path.into());
    let mut leaves = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(group) => leaves.extend(group.into_iter().map(|(leaf, value)| Assignment {
                key: format!("{name}.{leaf}"),
                value,
                origin: origin(),
            })),
            value => leaves.push(Assignment { key: name, value, origin: origin() }),
        }
    }
    leaves
}

/// Variables with a meaning of their own, which are no settings.
const OTHER_VARIABLES: [&str; 1] = ["FOREBAY_CONFIG"];

fn from_environment(
    environment: &BTreeMap<String, String>,
    known: &[Key],
    unknown: &mut Vec<ConfigError>,
) -> Vec<Assignment> {
    let by_variable: BTreeMap<String, &Key> =
        known.iter().filter(|key| !key.is_tables).map(|key| (key.variable(), key)).collect();
    let mut found = Vec::new();
    for (variable, text) in environment.iter().filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str())) {
        match by_variable.get(variable) {
            Some(key) => found.push(Assignment {
                key: key.name.clone(),
                value: parse_value(text),
                origin: Source::Environment(variable.clone()),
            }),
            None => unknown.push(ConfigError::UnknownKey {
                key: variable.clone(),
                origin: Source::Environment(variable.clone()),
                suggestion: keys::nearest(variable, by_variable.keys().map(String::as_str)).map(str::to_owned),
            }),
        }
    }
    found
}

/// A value from a flag or variable: TOML when it is some (`true`, `["a"]`, `8`), else the text itself.
fn parse_value(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

pub(super) fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((group, leaf)) => {
            let group = table.entry(group).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(group) = group {
                group.insert(leaf.to_owned(), value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use forebay_base::ByteSize;

    fn with_file(text: &str, environment: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("forebay.toml");
        std::fs::write(&file, text).unwrap();
        let values = sets.iter().map(|(key, value)| ("--set".into(), (*key).into(), (*value).into())).collect();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(&Flags { file: Some(file.clone()), values }, environment)
            .map_err(|errors| errors.iter().map(|e| e.to_string().replace(&*file.to_string_lossy(), "F")).collect())
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let text = "roles = [\"worker\"]\n[worker]\nfetch_size = \"4MiB\"\nlisten = \"0.0.0.0:1\"\n";
        let config = with_file(text, &[("FOREBAY_WORKER_FETCH_SIZE", "2MiB")], &[("log.level", "debug")]).unwrap();
        assert_eq!(config.settings.worker.fetch_size, ByteSize::mib(2));
        assert_eq!(config.settings.roles, [Role::Worker]);
        assert_eq!(config.settings.worker.listen, "0.0.0.0:1");
        assert_eq!(config.source("worker.fetch_size").to_string(), "environment FOREBAY_WORKER_FETCH_SIZE");
        assert!(config.source("worker.listen").to_string().starts_with("file "));
        assert_eq!(config.source("log.level").to_string(), "flag --set");
        assert_eq!(config.source("master.listen"), Source::Default);
    }

    #[test]
    fn every_error_is_reported_with_what_mends_it() {
        let text = "rolls = []\n[worker]\nfetch_sise = 1\nmemory_limit = \"much\"\n[log]\nformat = \"xml\"\n";
        let errors = with_file(text, &[], &[]).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:#?}");
        assert!(errors.iter().any(|e| e == "unknown setting rolls (file F); did you mean roles?"), "{errors:#?}");
        assert!(errors.iter().any(|e| e.contains("did you mean worker.fetch_size?")));
        assert!(
            errors.iter().any(|e| {
                e.contains("bad value for worker.memory_limit (file F): \"much\": ") && e.contains("512MiB")
            })
        );
        assert!(errors.iter().any(|e| e.contains("log.format") && e.ends_with("allowed: text, json")));
    }

    #[test]
    fn mistakes_of_type_hide_no_others() {
        let text = "worker = 5\ndata_dir = 7\nmasters = 5\n[log]\nlevel = true\n[web]\nlisten = \"off\"\n[client]\nsame_host = \"maybe\"\n\
            deadline = 7\nparts_in_flight = \"many\"\nlocal_files = -3\nconnections_per_worker = 0\nread_type = \"X\"\n[master]\nlisten = \"a\"\n";
        let errors = with_file(text, &[], &[]).unwrap_err();
        let expected = [
            "client.deadline (file F): 7: write a duration such as 30s, in quotes",
            "client.local_files (file F): -3: write a whole number from 0 to 4294967295",
            "client.parts_in_flight (file F): \"many\": write a whole number from 0 to 4294967295",
            "client.read_type (file F): \"X\": is none of the words; allowed: CACHE, CACHE_PROMOTE, NO_CACHE",
            "client.same_host (file F): \"maybe\": write true or false",
            "data_dir (file F): 7: write a path in quotes",
            "log.level (file F): true: write a text in quotes",
            "masters (file F): 5: write a list in brackets, e.g. [\"one\", \"two\"]",
            "worker (file F): 5: write a table: [worker]",
            "master.listen (file F): \"a\": write host:port, e.g. 0.0.0.0:7400",
            "client.connections_per_worker (file F): 0: 1 is the least",
        ];
        assert_eq!(errors, expected.map(|rest| format!("bad value for {rest}")));
    }

    #[test]
    fn each_mistake_within_tiers_is_told() {
        let text = "[[worker.tiers]]\nkind = \"memo\"\ndirectories = [{ path = 5, quota = \"lots\" }, { path = \"/x\" }]\n\
            [[worker.tiers]]\nkid = \"mem\"\ndirectories = 8\n";
        let errors = with_file(text, &[], &[]).unwrap_err();
        let expected = [
            "unknown setting worker.tiers[1].kid (file F); did you mean worker.tiers[1].kind?",
            "bad value for worker.tiers[0].kind (file F): \"memo\": is none of the words; allowed: mem, ssd, hdd",
            "bad value for worker.tiers[0].directories[0].path (file F): 5: write a path in quotes",
            "bad value for worker.tiers[0].directories[0].quota (file F): \"lots\": is not a byte size: write a number and a unit (KB to PB, KiB to PiB), as in 512MiB, 1.5GB or 4096",
            "bad value for worker.tiers[0].directories[1].quota (file F): { path = \"/x\" }: it is missing",
            "bad value for worker.tiers[1].directories (file F): 8: write a list of tables",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn each_line_that_is_no_toml_is_told() {
        let errors = with_file("[log]\nlevel = debug\n[web]\nlisten = off\n", &[], &[]).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert!(errors[0].contains("line 2") && errors[1].contains("line 4"), "{errors:#?}");
    }

    #[test]
    fn what_cannot_hold_together_is_told_with_its_source() {
        let text = "[worker]\nlisten = \"0.0.0.0:7400\"\ntiers = [{ kind = \"ssd\", directories = [{ path = \"/d\", quota = \"1GiB\" }, { path = \"/d/e\", quota = \"1GiB\" }] }]\n";
        let errors = with_file(text, &[], &[]).unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:#?}");
        assert!(
            errors[0]
                .starts_with("bad value for worker.listen (file F): \"0.0.0.0:7400\": master.listen has the same port")
        );
        assert!(
            errors[1].starts_with("bad value for worker.tiers[0].directories[1].path (file F): \"/d/e\": "),
            "{errors:#?}"
        );
        // A port that cannot be read is not taken for the default's.
        let errors = with_file(text, &[], &[("master.listen", "7")]).unwrap_err();
        assert!(!errors.iter().any(|error| error.contains("same port")), "{errors:#?}");
    }

    #[test]
    fn secrets_are_refused_and_not_shown() {
        let check = |text: &str, environment: &[(&str, &str)], sets: &[(&str, &str)], expected: &str| {
            let errors = with_file(text, environment, sets).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:#?}");
            assert!(errors[0].contains(expected) && !errors[0].contains("HUSH"), "{errors:#?}");
        };
        let named = "\"secret_access_key=***\"]: secrets have no place here";
        check("[backup]\noptions = [\"region=x\", \"secret_access_key=HUSH\"]\n", &[], &[], named);
        check("[backup]\noptions = \"secret_access_key=HUSH\"\n", &[], &[], "write a list");
        check("", &[("FOREBAY_BACKUP_OPTIONS", "region=x,secret_access_key=HUSH")], &[], named);
        check("", &[], &[("backup.options", "HUSH==")], "write name=value");
        let unquoted = with_file("[backup]\noptions = [\"secret_access_key=HUSH]\n", &[], &[]).unwrap_err();
        assert!(
            unquoted.iter().all(|error| error.contains("line 2, column") && !error.contains("HUSH")),
            "{unquoted:#?}"
        );
        check("backup = \"s3://KEY:HUSH@bucket\"\n", &[], &[], "write a table: [backup]");
        check("", &[], &[("backup", "s3://KEY:HUSH@bucket")], "write a table: [backup]");
        let target = "s3://***@bucket/prefix\": secrets have no place here";
        check("[backup]\nto = \"s3://KEY:HUSH/HUSH@bucket/prefix\"\n", &[], &[], target);
    }

    #[test]
    fn an_even_number_of_masters_is_noted() {
        let notes = |masters: &str| {
            let set = vec![("--masters".to_owned(), "masters".to_owned(), masters.to_owned())];
            load(&Flags { file: None, values: set }, []).unwrap().notes
        };
        assert!(notes("a:1,b:1").iter().any(|note| note.contains("an even number")));
        assert!(!notes("a:1,b:1,c:1").iter().any(|note| note.contains("an even number")));
    }

    #[test]
    fn masters_of_the_environment_in_place_of_those_of_the_file_are_noted() {
        let notes = |environment: &[(&str, &str)], sets: &[(&str, &str)]| {
            with_file("masters = [\"a:1\", \"b:1\", \"c:1\"]\n", environment, sets).unwrap().notes
        };
        assert_eq!(notes(&[], &[]), [""; 0]);
        assert_eq!(notes(&[("FOREBAY_MASTERS", "a:1,b:1,c:1")], &[]), [""; 0]);
        let told = notes(&[("FOREBAY_MASTERS", "d:1")], &[]);
        assert!(
            told.len() == 1 && told[0].starts_with("FOREBAY_MASTERS ([\"d:1\"]) takes the place of masters in "),
            "{told:?}"
        );
        assert_eq!(notes(&[], &[("masters", "d:1")]), [""; 0], "who writes it knows it");
    }

    #[test]
    fn relative_paths_are_relative_to_their_file_or_to_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("forebay.toml");
        std::fs::write(&file, "data_dir = \"data\"\n").unwrap();
        let flags = |values| Flags { file: Some(file.clone()), values };
        let config = load(&flags(vec![]), []).unwrap();
        assert_eq!(config.settings.data_dir, dir.path().join("data"));
        let note = format!("data_dir is relative to the file's directory: {}", dir.path().join("data").display());
        assert_eq!(config.notes, [note]);
        let set = vec![("--set".to_owned(), "data_dir".to_owned(), "here".to_owned())];
        let config = load(&flags(set), []).unwrap();
        assert_eq!(config.settings.data_dir, std::env::current_dir().unwrap().join("here"));
        std::fs::write(&file, "data_dir = \"/data\"\n").unwrap();
        assert_eq!(load(&flags(vec![]), []).unwrap().notes, [""; 0]);
    }

    #[test]
    fn parts_that_cannot_be_sent_are_refused() {
        let errors = with_file("[master]\npart_size = \"65MiB\"\n", &[], &[]).unwrap_err();
        assert!(errors[0].contains("master.part_size") && errors[0].contains("1B to 64MiB"), "{errors:#?}");
        with_file("[master]\npart_size = \"64MiB\"\n", &[], &[]).unwrap();
    }

    #[test]
    fn variables_take_lists_words_and_numbers() {
        let environment =
            [("FOREBAY_MASTERS", "a:1, b:2"), ("FOREBAY_ROLES", "worker"), ("FOREBAY_CLIENT_SAME_HOST", "false")];
        let config = with_file("", &environment, &[("worker.fetch_concurrency", "7")]).unwrap();
        assert_eq!(config.settings.masters, ["a:1", "b:2"]);
        assert_eq!(config.settings.roles, [Role::Worker]);
        assert!(!config.settings.client.same_host);
        assert_eq!(config.settings.worker.fetch_concurrency, 7);
        let errors = with_file("", &[("FOREBAY_ROLES", "mster")], &[]).unwrap_err();
        assert!(errors[0].contains("\"mster\": is none of the words; allowed: master, worker"), "{errors:#?}");
    }

    #[test]
    fn unknown_variables_are_told_but_do_not_stop() {
        let config = with_file("", &[("FOREBAY_LOG_LEVLE", "x"), ("OTHER", "y")], &[]).unwrap();
        let told: Vec<_> = config.unknown_variables.iter().map(ConfigError::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("did you mean FOREBAY_LOG_LEVEL?"), "{told:?}");
    }

    #[test]
    fn tiers_are_tables() {
        let text = "[[worker.tiers]]\nkind = \"ssd\"\ndirectories = [{ path = \"/d\", quota = \"1GiB\" }]\n";
        let config = with_file(text, &[], &[]).unwrap();
        assert_eq!(config.settings.worker.tiers[0].directories[0].quota, ByteSize::gib(1));
        let errors = with_file(&text.replace("quota", "qouta"), &[], &[]).unwrap_err();
        let directory = "worker.tiers[0].directories[0]";
        assert_eq!(errors, [format!("unknown setting {directory}.qouta (file F); did you mean {directory}.quota?")]);
        let errors = with_file(&text.replace("kind", "kid"), &[], &[]).unwrap_err();
        assert_eq!(errors, ["unknown setting worker.tiers[0].kid (file F); did you mean worker.tiers[0].kind?"]);
        let errors = with_file(&text.replace("1GiB", "much"), &[], &[]).unwrap_err();
        assert!(errors[0].contains("bad value for worker.tiers"), "{errors:?}");
    }

    #[test]
    fn files_that_are_missing_or_no_toml() {
        assert!(with_file("a = [", &[], &[]).unwrap_err()[0].starts_with("F is not TOML"));
        let missing = Flags { file: Some("/nowhere/forebay.toml".into()), values: vec![] };
        assert!(matches!(load(&missing, []).unwrap_err()[0], ConfigError::Unreadable { .. }));
    }
}
