//! `cargo xtask upgrade`: the program of the release before, built once from the history, beside that of today in one cluster.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Deserializer, Value};

use crate::chores::{self, BUILT_TOGETHER};
use crate::leftovers::TemporaryDir;
use crate::setup::{self, Purpose};
use crate::{cache, cargo};

/// Names the commit of the release before: a tag and its commit, which counts, since tags get lost.
const BASE: &str = "xtask/upgrade-base";

/// Raised when the way below changes, so that a program that was built otherwise is not taken for this one.
const RECIPE: u32 = 1;

/// The name under which the program is built, so that it lies beside today's in the one target directory.
const NAME: &str = "forebay-before";

/// Builds both programs and runs the test.
pub(crate) fn run() -> Result<()> {
    setup::run(Purpose::Build)?;
    let before = program_before()?;
    chores::build(&["forebay"])?;
    let temporary = TemporaryDir::make()?;
    let arguments = [&["test"][..], &BUILT_TOGETHER[..], &["--test", "it"]].concat();
    chores::has_tests(&arguments, &["upgrade::", "--ignored"])?;
    let mut command = chores::cargo_command(&arguments)?;
    command.args(["--", "upgrade::", "--ignored", "--nocapture"]);
    command.env("FOREBAY_BIN", chores::program("forebay")?).env("FOREBAY_BIN_BEFORE", before);
    chores::step("upgrade", command.env("TMPDIR", temporary.path()))?;
    temporary.check_empty()
}

/// The program of the release before; built when it is not in the cache.
fn program_before() -> Result<PathBuf> {
    let commit = commit_before()?;
    let kept = cache::dir()?.join(format!("before-{commit}-r{RECIPE}"));
    let program = kept.join(NAME);
    if program.is_file() {
        return Ok(program);
    }
    let _lock = cache::lock("before")?;
    if !program.is_file() {
        println!("==> the release before, {commit}: built once");
        let started = Instant::now();
        cache::install_dir(&kept, |scratch| build(&commit, scratch))?;
        println!("==> the release before: {} s", started.elapsed().as_secs());
    }
    Ok(program)
}

/// The commit in [`BASE`], which must be in this clone.
fn commit_before() -> Result<String> {
    let path = cargo::root().join(BASE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut words = text.lines().rfind(|line| !line.starts_with('#')).unwrap_or_default().split_whitespace();
    let (tag, commit) = (words.next(), words.next());
    let (tag, commit) = tag.zip(commit).with_context(|| format!("{BASE} has no line with a tag and a commit"))?;
    for name in [commit, tag] {
        let output = git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).output();
        let output = output.context("starting git, which has the release before in its history")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
    }
    anyhow::bail!(
        "the release before (commit {commit}, tag {tag}) is not in the history of {}: this has to be a git clone with its history (git fetch --unshallow, or git fetch origin {commit})",
        cargo::root().display()
    )
}

fn git(arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // Only read here, whoever owns the clone.
    command.args(["-c", "safe.directory=*", "-C"]).arg(cargo::root()).args(arguments);
    command
}

/// Puts the program of a commit into `target`. Other packages than our own are those that today's build has, as long as both want the same; ours are
/// compiled quickly rather than well.
fn build(commit: &str, target: &Path) -> Result<()> {
    let source = target.join("source");
    fs::create_dir(&source).with_context(|| format!("making {}", source.display()))?;
    export(commit, &source)?;
    let manifest = source.join("crates/forebay/Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
    fs::write(&manifest, format!("{text}\n[[bin]]\nname = \"{NAME}\"\npath = \"src/main.rs\"\n"))?;
    let mut command =
        chores::cargo_command(&["build", "--locked", "--message-format=json-render-diagnostics", "--bin", NAME])?;
    command.args(BUILT_TOGETHER).current_dir(&source);
    for package in packages(&source)? {
        command.args(["--config", &format!("profile.dev.package.{package}.opt-level=0")]);
        command.args(["--config", &format!("profile.dev.package.{package}.debug=false")]);
    }
    let mut cargo = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = cargo.stdout.take().context("it is piped")?;
    let made = made_from(&source, BufReader::new(output));
    ensure!(cargo.wait()?.success(), "the release before was not built");
    let built = chores::program(NAME)?;
    fs::copy(&built, target.join(NAME)).context("copying the program")?;
    // What is compiled from a directory that goes is of no use any more.
    for path in made?.iter().chain(&linked(&built)?).chain([&source]) {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        if let Err(error) = removed.or_else(|error| if path.exists() { Err(error) } else { Ok(()) }) {
            println!("{} stays: {error}", path.display());
        }
    }
    Ok(())
}

/// What was linked, which has another name than the program.
fn linked(program: &Path) -> Result<Vec<PathBuf>> {
    let deps = program.with_file_name("deps");
    let prefix = format!("{}-", NAME.replace('-', "_"));
    let entries = fs::read_dir(&deps).with_context(|| format!("reading {}", deps.display()))?;
    let paths = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    Ok(paths.map(|entry| entry.path()).collect())
}

/// The files of a commit.
fn export(commit: &str, target: &Path) -> Result<()> {
    let mut archive =
        git(&["archive", "--format=tar", commit]).stdout(Stdio::piped()).spawn().context("starting git")?;
    let tar = archive.stdout.take().context("it is piped")?;
    let unpacked = Command::new("tar").arg("-x").arg("-C").arg(target).stdin(tar).status().context("starting tar")?;
    ensure!(archive.wait()?.success() && unpacked.success(), "the files of {commit} were not unpacked");
    Ok(())
}

/// The names of our packages there.
fn packages(source: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let crates = source.join("crates");
    for entry in fs::read_dir(&crates).with_context(|| format!("reading {}", crates.display()))? {
        let Ok(manifest) = fs::read_to_string(entry?.path().join("Cargo.toml")) else {
            continue;
        };
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        names.extend(name.filter(|name| !BUILT_TOGETHER.contains(name)).map(str::to_owned));
    }
    Ok(names)
}

/// What cargo has made from packages below `source`, of which it tells on its output: files, their fingerprints, and the directories of build scripts.
fn made_from(source: &Path, output: impl std::io::Read) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for message in Deserializer::from_reader(output).into_iter::<Value>() {
        let message = message.context("reading what cargo says")?;
        if let Some(directory) = message["out_dir"].as_str().filter(|_| is_below(source, &message["package_id"])) {
            made.extend(Path::new(directory).parent().map(Path::to_owned));
        }
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for file in files.filter(|_| is_below(source, &message["manifest_path"])).map(Path::new) {
            made.push(file.to_owned());
            made.extend(fingerprint_of(file, &message["package_id"]));
        }
    }
    Ok(made)
}

fn is_below(source: &Path, place: &Value) -> bool {
    place.as_str().is_some_and(|place| place.contains(&*source.to_string_lossy()))
}

/// Beside `deps/libforebay_base-0123.rlib` of the package `forebay-base` lies `.fingerprint/forebay-base-0123`.
fn fingerprint_of(file: &Path, package_id: &Value) -> Option<PathBuf> {
    let stem = file.file_stem()?.to_str()?;
    let (_, hash) = stem.rsplit_once('-').filter(|(_, hash)| hash.len() == 16)?;
    let package = package_id.as_str()?.rsplit_once('#')?;
    let name = match package.1.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => {
            let manifest = fs::read_to_string(Path::new(package.0.strip_prefix("path+file://")?).join("Cargo.toml"));
            let manifest = manifest.ok()?;
            manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))?.to_owned()
        }
    };
    Some(file.parent()?.parent()?.join(".fingerprint").join(format!("{name}-{hash}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_from_a_directory_is_told_from_the_rest() {
        let source = Path::new("/cache/source");
        let output = r#"
            {"reason":"compiler-artifact","package_id":"path+file:///cache/source/crates/base#forebay-base@0.1.0",
             "manifest_path":"/cache/source/crates/base/Cargo.toml",
             "filenames":["/t/debug/deps/libforebay_base-0123456789abcdef.rlib"]}
            {"reason":"compiler-artifact","package_id":"registry+https://x#bytes@1.0.0","manifest_path":"/registry/bytes/Cargo.toml",
             "filenames":["/t/debug/deps/libbytes-0123456789abcdef.rlib"]}
            {"reason":"build-script-executed","package_id":"path+file:///cache/source/crates/proto#forebay-proto@0.1.0",
             "out_dir":"/t/debug/build/forebay-proto-fedcba9876543210/out"}
            {"reason":"build-finished","success":true}"#;
        let made = made_from(source, output.as_bytes()).unwrap();
        let wanted = [
            "/t/debug/deps/libforebay_base-0123456789abcdef.rlib",
            "/t/debug/.fingerprint/forebay-base-0123456789abcdef",
            "/t/debug/build/forebay-proto-fedcba9876543210",
        ];
        assert_eq!(made, wanted.map(PathBuf::from));
    }

    #[test]
    fn the_file_names_a_commit() {
        let text = fs::read_to_string(cargo::root().join(BASE)).unwrap();
        let line = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let commit = line.split_whitespace().nth(1).unwrap();
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
}
