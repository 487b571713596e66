//! Values as messages about them show them: of what may hold secrets just the rest, as messages go into logs that many read.

use forebay_ufs::userinfo;
use toml::Value;

/// Longer than the name of any option.
const NAME_LEN_MAX: usize = 32;

/// The value of a key, without its secrets.
pub(super) fn shown(key: &str, value: &Value) -> String {
    match (key, value) {
        ("backup.options", _) => options(value),
        // Something else than the table that it is to be.
        ("backup", _) => hidden(),
        ("backup.to", Value::String(uri)) => Value::from(&*userinfo::hidden(uri)).to_string(),
        _ => value.to_string(),
    }
}

/// The names of `name=value`.
fn options(value: &Value) -> String {
    let names: Vec<String> = match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().map_or_else(hidden, name)).collect(),
        // As variables and flags have them.
        Value::String(text) => text.split(',').map(name).collect(),
        _ => vec![hidden()],
    };
    format!("[{}]", names.join(", "))
}

/// What is before the `=` of an option, if it looks like a name: a key may end in `=`, too.
pub(super) fn option_name(option: &str) -> Option<&str> {
    let name = option.split_once('=')?.0.trim();
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-".contains(&byte));
    (!name.is_empty() && name.len() <= NAME_LEN_MAX && is_name).then_some(name)
}

fn name(option: &str) -> String {
    option_name(option).map_or_else(hidden, |name| format!("\"{name}=***\""))
}

fn hidden() -> String {
    "\"***\"".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_options_only_names_are_shown_and_of_targets_no_keys() {
        let check = |key, value: &str, expected: &str| {
            let table: toml::Table = format!("value = {value}").parse().unwrap();
            assert_eq!(shown(key, &table["value"]), expected, "{value}");
        };
        let mixed = r#"["region=x", " secret-access-key = S=x", "S3CR3T==", "S", 7]"#;
        check("backup.options", mixed, r#"["region=***", "secret-access-key=***", "***", "***", "***"]"#);
        check("backup.options", r#""region=x,session_token=S""#, r#"["region=***", "session_token=***"]"#);
        check("backup.options", "7", r#"["***"]"#);
        check("backup.to", r#""s3://KEY:SECRET@b/p""#, r#""s3://***@b/p""#);
        check("backup", r#""s3://KEY:SECRET@b/p""#, r#""***""#);
        check("backup.to", r#""/backups""#, r#""/backups""#);
        check("masters", r#"["a@b:1"]"#, r#"["a@b:1"]"#);
    }
}
