//! From file, environment and flags to one [`Settings`], with the source of each value.

#![allow(clippy::result_large_err, reason = "errors are made once a mistake, at the start of the process")]

use super::{
    Settings,
    keys::{self, Key},
    limits,
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

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
}

impl Config {
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
struct Assignment {
    key: String,
    value: Value,
    origin: Source,
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
            Err(error) => errors.push(error),
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
    for assignment in assignments {
        match check(&assignment, &known) {
            Ok(value) => {
                insert(&mut merged, &assignment.key, value);
                sources.insert(assignment.key, assignment.origin);
            }
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    match Settings::deserialize_table(merged) {
        Ok(settings) => {
            let errors = limit_errors(&settings, &sources);
            if errors.is_empty() { Ok(Config { settings, sources, file, unknown_variables }) } else { Err(errors) }
        }
        Err(reason) => Err(vec![ConfigError::BadValue {
            key: "settings".into(),
            value: String::new(),
            origin: Source::Default,
            reason,
            allowed: vec![],
        }]),
    }
}

fn limit_errors(settings: &Settings, sources: &BTreeMap<String, Source>) -> Vec<ConfigError> {
    let values = Value::try_from(settings).unwrap_or_else(|_| Value::Table(Table::new()));
    let error = |(key, reason): (&str, String)| ConfigError::BadValue {
        key: key.to_owned(),
        value: key
            .split('.')
            .try_fold(&values, |value, name| value.get(name))
            .map(Value::to_string)
            .unwrap_or_default(),
        origin: sources.get(key).cloned().unwrap_or(Source::Default),
        reason,
        allowed: vec![],
    };
    limits::check(settings).into_iter().map(error).collect()
}

impl Settings {
    fn deserialize_table(table: Table) -> Result<Settings, String> {
        serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| error.to_string())
    }
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.into(), reason: error.to_string() })?;
    text.parse::<Table>().map_err(|error| ConfigError::NotToml { path: path.into(), reason: error.to_string() })
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

/// Tries the value alone; a bare word or number is taken for a list of one, or a text, where that is what fits.
fn check(assignment: &Assignment, known: &[Key]) -> Result<Value, ConfigError> {
    let Some(key) = known.iter().find(|key| key.name == assignment.key) else {
        return Err(ConfigError::UnknownKey {
            key: assignment.key.clone(),
            origin: assignment.origin.clone(),
            suggestion: keys::nearest(&assignment.key, known.iter().map(|key| key.name.as_str())).map(str::to_owned),
        });
    };
    let mut reason = String::new();
    for candidate in readings(assignment) {
        let mut alone = Table::new();
        insert(&mut alone, &key.name, candidate.clone());
        match Settings::deserialize_table(alone) {
            Ok(_) => return Ok(candidate),
            Err(error) if reason.is_empty() => reason = error,
            Err(_) => {}
        }
    }
    Err(ConfigError::BadValue {
        key: key.name.clone(),
        value: assignment.value.to_string(),
        origin: assignment.origin.clone(),
        reason: reason.trim_start_matches(&format!("{}: ", key.name)).trim().to_owned(),
        allowed: key.allowed.clone(),
    })
}

fn readings(assignment: &Assignment) -> Vec<Value> {
    let value = &assignment.value;
    let mut all = vec![value.clone()];
    if !matches!(assignment.origin, Source::File(_)) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let items = text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
        all.push(Value::String(text));
        all.push(Value::Array(items));
    }
    all
}

fn insert(table: &mut Table, key: &str, value: Value) {
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
        assert!(errors[0].contains("worker.tiers") && errors[0].contains("qouta"), "{errors:?}");
    }

    #[test]
    fn files_that_are_missing_or_no_toml() {
        assert!(with_file("a = [", &[], &[]).unwrap_err()[0].starts_with("F is not TOML"));
        let missing = Flags { file: Some("/nowhere/forebay.toml".into()), values: vec![] };
        assert!(matches!(load(&missing, []).unwrap_err()[0], ConfigError::Unreadable { .. }));
    }
}
