//! Whether one value fits its key: everything that is wrong with it, in words of the file.

use super::{
    TierKind,
    keys::{self, Key},
    layers::{Assignment, ConfigError, Source},
    settings::Settings,
    shown::shown,
};
use forebay_base::ByteSize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use toml::{Table, Value};

/// The value as it is to be taken: a bare word or number from a flag or variable is a list of one, or a text, where that is what fits.
pub(super) fn check(assignment: &Assignment, known: &[Key]) -> Result<Value, Vec<ConfigError>> {
    let Some(key) = known.iter().find(|key| key.name == assignment.key) else {
        return Err(vec![unknown(assignment, known)]);
    };
    let mut reason = String::new();
    for candidate in readings(assignment) {
        match fits(&key.name, &candidate) {
            Ok(()) => return Ok(candidate),
            // Of a bare word for a list, what is wrong with the word.
            Err(error) if reason.is_empty() || reason.contains("expected a sequence") => reason = error,
            Err(_) => {}
        }
    }
    let mut found = Found { origin: &assignment.origin, errors: Vec::new() };
    if key.is_tables {
        for (name, suggestion) in keys::unknown_within(&key.name, &assignment.value) {
            found.errors.push(ConfigError::UnknownKey { key: name, origin: assignment.origin.clone(), suggestion });
        }
        found.tables(&key.name, &assignment.value, tier);
    }
    if found.errors.is_empty() {
        found.bad(&key.name, &assignment.value, in_words(&reason), &key.allowed);
    }
    Err(found.errors)
}

fn unknown(assignment: &Assignment, known: &[Key]) -> ConfigError {
    let Assignment { key, value, origin } = assignment;
    if known.iter().any(|known| known.name.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.'))) {
        let reason = format!("write a table: [{key}]");
        let value = shown(key, value);
        return ConfigError::BadValue { key: key.clone(), value, origin: origin.clone(), reason, allowed: vec![] };
    }
    let suggestion = keys::nearest(key, known.iter().map(|key| key.name.as_str())).map(str::to_owned);
    ConfigError::UnknownKey { key: key.clone(), origin: origin.clone(), suggestion }
}

/// Tries the value alone.
fn fits(key: &str, value: &Value) -> Result<(), String> {
    let mut alone = Table::new();
    super::layers::insert(&mut alone, key, value.clone());
    Settings::deserialize_table(alone).map(drop)
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

/// What serde found, for people who write files: what to write, without the names of types.
fn in_words(reason: &str) -> String {
    let reason = reason.lines().next().unwrap_or_default();
    if let Some(at) = reason.find("unknown variant `") {
        let word = reason[at..].split('`').nth(1).unwrap_or_default();
        return format!("{word:?} is none of the words");
    }
    let Some((_, expected)) = reason.rsplit_once(", expected ").filter(|_| reason.contains("invalid ")) else {
        return reason.to_owned();
    };
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "a boolean" => "true or false",
        "a sequence" => "a list in brackets, e.g. [\"one\", \"two\"]",
        "path string" => "a path in quotes",
        "a string" | "string or table" => "a text in quotes",
        other => other,
    };
    format!("write {expected}")
}

/// The mistakes of a value that is made of tables.
struct Found<'a> {
    origin: &'a Source,
    errors: Vec<ConfigError>,
}

impl Found<'_> {
    fn bad(&mut self, key: &str, value: &Value, reason: String, allowed: &[String]) {
        let value = shown(key, value);
        // What the value's own parser says begins with the value, which has been told by then.
        let reason =
            reason.strip_prefix(&value).map_or(reason.as_str(), |rest| rest.trim_start_matches([':', ' '])).to_owned();
        self.errors.push(ConfigError::BadValue {
            key: key.to_owned(),
            value,
            origin: self.origin.clone(),
            reason,
            allowed: allowed.to_vec(),
        });
    }

    /// Looks into each table of a list.
    fn tables(&mut self, path: &str, value: &Value, look: fn(&mut Self, &str, &Table)) {
        let Some(items) = value.as_array() else {
            return self.bad(path, value, "write a list of tables".to_owned(), &[]);
        };
        for (at, item) in items.iter().enumerate() {
            let path = format!("{path}[{at}]");
            match item.as_table() {
                Some(table) => look(self, &path, table),
                None => self.bad(&path, item, "write a table".to_owned(), &[]),
            }
        }
    }

    fn field<T: DeserializeOwned>(&mut self, path: &str, table: &Table, name: &str, allowed: &[String]) {
        let path = format!("{path}.{name}");
        let Some(value) = table.get(name) else { return self.missing(&path, table) };
        if let Err(error) = value.clone().try_into::<T>() {
            self.bad(&path, value, in_words(&error.to_string()), allowed);
        }
    }

    /// A mistyped name, which has been told, is not missing as well.
    fn missing(&mut self, path: &str, table: &Table) {
        let told = |error: &ConfigError| matches!(error, ConfigError::UnknownKey { suggestion: Some(near), .. } if near == path);
        if !self.errors.iter().any(told) {
            self.bad(path, &Value::Table(table.clone()), "it is missing".to_owned(), &[]);
        }
    }
}

fn tier(found: &mut Found<'_>, path: &str, table: &Table) {
    found.field::<TierKind>(path, table, "kind", &["mem", "ssd", "hdd"].map(str::to_owned));
    match table.get("directories") {
        Some(value) => found.tables(&format!("{path}.directories"), value, directory),
        None => found.missing(&format!("{path}.directories"), table),
    }
}

fn directory(found: &mut Found<'_>, path: &str, table: &Table) {
    found.field::<PathBuf>(path, table, "path", &[]);
    found.field::<ByteSize>(path, table, "quota", &[]);
}
