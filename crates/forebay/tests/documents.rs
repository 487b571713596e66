//! The documents say what is true of the code: tests that they name exist, links lead somewhere.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below `directory` with this extension, build products left out.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

/// The words between backquotes of the lines that start with `prefix`.
fn quoted(text: &str, prefix: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn each_paragraph_of_the_semantics_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/SEMANTICS.md")).unwrap();
    let code: String = files(&root().join("crates"), "rs").iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("**")) {
        let start: String = paragraph.chars().take(60).collect();
        let tests = quoted(paragraph, "Shown by ");
        assert!(!tests.is_empty(), "no test is named for: {start}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "{test}, named for {start:?}, does not exist");
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in files(&root(), "md") {
        let text = fs::read_to_string(&file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(file.parent().unwrap().join(path).exists(), "{} links to {target}", file.display());
        }
    }
}

#[test]
fn the_changelog_names_every_command() {
    let changes = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_forebay")).args(["fs", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 10, "{help}");
    for command in commands {
        assert!(changes.contains(command), "{command} is not in the changelog");
    }
}

/// The names of metrics in a text: `"forebay_…"` in code, `` `forebay_…` `` in documents.
fn metric_names(text: &str, quote: char) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        let rest = word.strip_prefix("forebay_").unwrap_or_default();
        !rest.ends_with('_') && rest.contains('_') && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text.split(quote).filter(is_name).map(str::to_owned).collect()
}

#[test]
fn the_page_of_metrics_names_those_of_the_code() {
    let parts = ["cache", "client", "consensus", "master", "ufs", "worker"];
    let sources = parts.iter().flat_map(|part| files(&root().join("crates").join(part).join("src"), "rs"));
    let code: BTreeSet<String> =
        sources.flat_map(|file| metric_names(&fs::read_to_string(file).unwrap(), '"')).collect();
    let page = metric_names(&fs::read_to_string(root().join("docs/metrics.md")).unwrap(), '`');
    assert!(code.len() > 50, "{code:?}");
    assert_eq!(page, code, "docs/metrics.md (left) and the code (right) differ");
}
