//! `docs/configuration.md`, written from the settings themselves.

use super::{Settings, keys};
use std::fmt::Write;

const INTRODUCTION: &str = "# Configuration

This page is written by `cargo xtask docs` from the settings' own documentation; a test keeps it true.

One TOML file (`--config FILE` or `FOREBAY_CONFIG`), overridden by environment variables, overridden by flags (`--set KEY=VALUE`).
Without a file the defaults hold: one process with every role, on loopback only. `forebay config show` prints what holds and where
each value comes from, `forebay config check` finds mistakes.

A relative path in a file is relative to the file's directory, in a variable or a flag to the working directory. Byte sizes are written `512MiB`, `1.5GB` or `4096`; durations `30s`, `250ms` or `1h30m`. A list in a variable is written with commas: `FOREBAY_MASTERS=a:7400,b:7400`.
";

/// The page.
pub(crate) fn document() -> String {
    let defaults = toml::Table::try_from(Settings::default()).expect("settings are TOML");
    let mut page = INTRODUCTION.to_owned();
    for group in keys::groups() {
        let title = if group.name.is_empty() { "Top level".to_owned() } else { format!("[{}]", group.name) };
        let doc = if group.doc.is_empty() { String::new() } else { format!("{}\n\n", group.doc) };
        let _ = write!(page, "\n## {title}\n{doc}\n| key | default | variable | meaning |\n|---|---|---|---|\n");
        for key in group.keys {
            let variable = if key.is_tables { "–".to_owned() } else { format!("`{}`", key.variable()) };
            let default = default_text(&defaults, &key.name);
            let _ = writeln!(page, "| `{}` | {default} | {variable} | {} |", key.name, key.doc.replace('|', "\\|"));
        }
    }
    page.push_str(TIERS);
    page
}

const TIERS: &str = r#"
## Tiers
The fastest first; each with one or more directories, each with a quota:

```toml
[[worker.tiers]]
kind = "mem"
directories = [{ path = "/dev/shm/forebay", quota = "8GiB" }]

[[worker.tiers]]
kind = "ssd"
directories = [{ path = "/nvme0/forebay", quota = "800GiB" }, { path = "/nvme1/forebay", quota = "800GiB" }]
```

A directory must lie on a file system that can give back parts of a file (punch holes): ext4, XFS, Btrfs, F2FS, tmpfs. Others are refused when the worker starts.
Each directory is of one tier alone: two that are the same, or one within another, are refused, and so are `data_dir` itself, one above it, and those of the roles (`master`, `worker`) in it.
"#;

/// The default as TOML; those that depend on the machine are told in the key's own words.
fn default_text(defaults: &toml::Table, key: &str) -> String {
    if matches!(key, "data_dir" | "worker.tiers") {
        return "see there".to_owned();
    }
    let value = key.split('.').try_fold(toml::Value::Table(defaults.clone()), |value, name| value.get(name).cloned());
    value.map_or_else(String::new, |value| format!("`{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_one_made_here() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let page = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(page == document(), "docs/configuration.md is not up to date: run `cargo xtask docs`");
    }
}
