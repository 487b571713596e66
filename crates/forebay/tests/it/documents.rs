//! The documents say what is true of the code: tests that they name exist, links lead somewhere.

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

/// Whether the code has a test of this name: a function with a test attribute directly before it, which is not ignored.
fn has_test(code: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let attributes = |before: &str| -> Vec<String> {
        let lines = before.lines().rev().skip(1).map(str::trim);
        lines.take_while(|line| line.starts_with("#[") || line.starts_with("///")).map(str::to_owned).collect()
    };
    code.match_indices(&function).any(|(at, _)| {
        let found = attributes(&format!("{}|", &code[..at]));
        let is = |starts: &[&str]| found.iter().any(|line| starts.iter().any(|start| line.starts_with(start)));
        is(&["#[test]", "#[tokio::test", "#[rstest"]) && !is(&["#[ignore"])
    })
}

#[test]
fn a_test_is_told_from_other_functions() {
    let code = "fn helper() {}\n#[test]\nfn one() {}\n\n#[tokio::test(flavor = \"x\")]\n/// Words.\nasync fn two() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn three() {}\n";
    let found = ["helper", "one", "two", "three", "four"].map(|name| has_test(code, name));
    assert_eq!(found, [false, true, true, false, false]);
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
            assert!(has_test(&code, &test), "{test}, named for {start:?}, is no test, or one that is not run");
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

/// A scrape of a server that has done nothing yet has all that the page names, but what the client counts in its own program: a counter that only comes
/// with its first event has no rate.
#[tokio::test]
async fn a_fresh_server_prints_all_metrics_of_its_roles() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join("docs/metrics.md"))?;
    let mut lake = crate::common::Lake::embedded().await?;
    let printed = lake.cluster.master().web("/metrics").await?;
    let missing: Vec<String> = metric_names(&page, '`')
        .into_iter()
        .filter(|name| !name.starts_with("forebay_client_") && !printed.contains(&format!("# TYPE {name} ")))
        .collect();
    anyhow::ensure!(missing.is_empty(), "{missing:?} in {printed}");
    for sample in [
        "forebay_master_requests_total{class=\"write\",outcome=\"conflict\"} 0",
        "forebay_master_background_failures_total{task=\"purge\"} 0",
        "forebay_master_follower_reads_total{outcome=\"served\"} 0",
        "forebay_master_follower_reads_total{outcome=\"behind\"} 0",
        "forebay_master_follower_reads_total{outcome=\"leader\"} 0",
        "forebay_master_follower_questions_total{outcome=\"answered\"} 0",
        "forebay_master_follower_questions_total{outcome=\"failed\"} 0",
        "forebay_raft_is_leader 1",
        "forebay_raft_leader_changes_total 0",
        "forebay_raft_members 1",
        "forebay_worker_request_failures_total{kind=\"unavailable\"} 0",
        "forebay_worker_damaged_pages_total 0",
        "forebay_worker_fetch_seconds_count 0",
    ] {
        anyhow::ensure!(printed.lines().any(|line| line == sample), "no {sample} in {printed}");
    }
    let unlabelled = printed.lines().find(|line| line.starts_with("forebay_master_follower_") && !line.contains('{'));
    anyhow::ensure!(unlabelled.is_none(), "{unlabelled:?}");
    let retries = printed.lines().filter(|line| line.starts_with("forebay_ufs_retries_total{store="));
    anyhow::ensure!(retries.filter(|line| line.ends_with("request=\"GetObject\"} 0")).count() == 1, "{printed}");
    Ok(())
}

/// What a server prints after it has done a bit of everything is on the page, each with its kind. The client's metrics are counted in its own program.
#[tokio::test]
async fn metrics_that_a_server_prints_are_on_the_page_with_their_kinds() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join("docs/metrics.md"))?;
    let mut lake = crate::common::Lake::embedded().await?;
    let seeded = lake.put_seeded("a", 3 << 20).await?;
    for _ in 0..2 {
        anyhow::ensure!(lake.cat_from_afar("/lake/a").await? == seeded.bytes(0..3 << 20));
    }
    lake.check("/lake/a", seeded, 3 << 20).await?;
    lake.ok(&["fs", "cp", "/lake/a", "/lake/b"]).await?;
    lake.ok(&["fs", "mv", "/lake/b", "/lake/c"]).await?;
    lake.ok(&["fs", "rm", "/lake/c"]).await?;
    lake.fails(3, &["fs", "stat", "/lake/none"]).await?;
    let printed = lake.cluster.master().web("/metrics").await?;
    let mut names = 0;
    for line in printed.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        anyhow::ensure!(
            page.contains(&format!("| `{name}` | {kind} |")),
            "{name}, a {kind}, is not on the page as such"
        );
        names += 1;
    }
    anyhow::ensure!(names > 30, "only {names} metrics: {printed}");
    Ok(())
}
