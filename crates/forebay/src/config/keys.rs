//! The keys that can be set, read from the schema of [`Settings`].

use super::Settings;
use serde_json::Value;

/// One leaf of the settings.
pub(crate) struct Key {
    /// Dotted, e.g. `worker.fetch_size`.
    pub(crate) name: String,
    /// What it means, from the setting's doc comment.
    pub(crate) doc: String,
    /// Words that are allowed, for a setting that is one of a few.
    pub(crate) allowed: Vec<String>,
    /// Whether its value is a list of tables (`[[worker.tiers]]`), which no environment variable can set.
    pub(crate) is_tables: bool,
}

impl Key {
    /// The environment variable of the key: `worker.fetch_size` is `FOREBAY_WORKER_FETCH_SIZE`.
    pub(crate) fn variable(&self) -> String {
        format!("FOREBAY_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// A group of keys: the top level (empty name) or a table such as `worker`.
pub(crate) struct Group {
    /// The table's name.
    pub(crate) name: String,
    /// What it is about.
    pub(crate) doc: String,
    /// Its keys, in declaration order.
    pub(crate) keys: Vec<Key>,
}

/// Every group with its keys: the top level first, then in declaration order.
pub(crate) fn groups() -> Vec<Group> {
    let schema = schemars::schema_for!(Settings);
    let root = schema.as_value();
    let mut groups = vec![Group { name: String::new(), doc: String::new(), keys: Vec::new() }];
    for (name, property) in properties(root) {
        let target = resolve(root, property);
        if target.get("properties").is_some() {
            let keys = properties(target).map(|(leaf, p)| key(root, format!("{name}.{leaf}"), p)).collect();
            groups.push(Group { name: name.clone(), doc: description(property), keys });
        } else {
            groups[0].keys.push(key(root, name.clone(), property));
        }
    }
    groups
}

/// Every key.
pub(crate) fn all() -> Vec<Key> {
    groups().into_iter().flat_map(|group| group.keys).collect()
}

fn key(root: &Value, name: String, property: &Value) -> Key {
    let target = resolve(root, property);
    let item = target.get("items").map(|items| resolve(root, items));
    let allowed = allowed(target).or_else(|| item.and_then(allowed)).unwrap_or_default();
    Key {
        name,
        doc: description(property),
        allowed,
        is_tables: item.is_some_and(|item| item.get("properties").is_some()),
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    reference.and_then(|path| root.pointer(path.trim_start_matches('#'))).unwrap_or(schema)
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names within `value` that the setting `key` does not have, as paths (`worker.tiers[0].kid`), and the nearest that it has.
pub(crate) fn unknown_within(key: &str, value: &toml::Value) -> Vec<(String, Option<String>)> {
    let schema = schemars::schema_for!(Settings);
    let root = schema.as_value();
    let start = key.split('.').try_fold(root, |at, name| Some(resolve(root, at.get("properties")?.get(name)?)));
    let mut found = Vec::new();
    if let Some(start) = start {
        unknown(root, start, key, value, &mut found);
    }
    found
}

fn unknown(root: &Value, schema: &Value, path: &str, value: &toml::Value, found: &mut Vec<(String, Option<String>)>) {
    match value {
        toml::Value::Array(items) => {
            let Some(schema) = schema.get("items").map(|items| resolve(root, items)) else { return };
            items
                .iter()
                .enumerate()
                .for_each(|(at, item)| unknown(root, schema, &format!("{path}[{at}]"), item, found));
        }
        toml::Value::Table(table) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, value) in table {
                match known.get(name) {
                    Some(property) => unknown(root, resolve(root, property), &format!("{path}.{name}"), value, found),
                    None => {
                        let near = nearest(name, known.keys().map(String::as_str));
                        found.push((format!("{path}.{name}"), near.map(|near| format!("{path}.{near}"))));
                    }
                }
            }
        }
        _ => {}
    }
}

/// The words of an enum: `enum: [..]`, or `oneOf: [{const: ..}]` when its variants have docs.
fn allowed(schema: &Value) -> Option<Vec<String>> {
    let words = |values: &Value, pick: fn(&Value) -> Option<&str>| -> Option<Vec<String>> {
        Some(values.as_array()?.iter().filter_map(pick).map(str::to_owned).collect())
    };
    schema
        .get("enum")
        .and_then(|values| words(values, Value::as_str))
        .or_else(|| schema.get("oneOf").and_then(|values| words(values, |v| v.get("const").and_then(Value::as_str))))
}

/// The name among `known` that a mistyped one probably meant.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(typed, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_and_has_a_variable_of_its_own() {
        let keys = all();
        let mut variables: Vec<_> = keys.iter().map(Key::variable).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), keys.len());
        assert!(keys.iter().any(|key| key.name == "worker.fetch_size"));
        for key in &keys {
            assert!(!key.doc.is_empty(), "{} has no doc", key.name);
        }
    }

    #[test]
    fn words_of_enums_are_known() {
        let keys = all();
        let format = keys.iter().find(|key| key.name == "log.format").unwrap();
        assert_eq!(format.allowed, ["text", "json"]);
        let roles = keys.iter().find(|key| key.name == "roles").unwrap();
        assert_eq!(roles.allowed, ["master", "worker"]);
        assert!(keys.iter().find(|key| key.name == "worker.tiers").unwrap().is_tables);
    }

    #[test]
    fn suggests_the_nearest() {
        assert_eq!(nearest("worker.fetch_sise", ["worker.listen", "worker.fetch_size"]), Some("worker.fetch_size"));
        assert_eq!(nearest("xyz", ["worker.listen"]), None);
    }
}
