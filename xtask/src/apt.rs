//! Debian packages: found by what they provide, installed by `apt-get` only when that is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// A package, the test that it is not needed, and why it is.
pub(crate) struct Package {
    name: &'static str,
    why: &'static str,
    is_there: fn() -> bool,
}

/// What compiling the workspace needs.
pub(crate) const FOR_BUILDING: &[Package] = &[
    Package { name: "g++", why: "compiles RocksDB", is_there: has_compiler },
    Package { name: "libclang-dev", why: "reads RocksDB's header for its Rust bindings", is_there: has_libclang },
];

/// What a Python environment of our own needs.
pub(crate) const FOR_PYTHON: &[Package] = &[
    Package { name: "python3", why: "runs moto, an S3 server for the tests", is_there: || has_command("python3") },
    Package { name: "python3-venv", why: "keeps Python packages out of the system", is_there: has_venv },
];

/// What the tests of clocks that jump need.
pub(crate) const FOR_CLOCKS: &[Package] =
    &[Package { name: "faketime", why: "lets tests set the clock of one process", is_there: has_faketime }];

/// What the tests need that cut the power of a file system. Root mounts it without a helper.
pub(crate) const FOR_POWER_CUTS: &[Package] = &[
    Package {
        name: "fuse3",
        why: "mounts a file system of the tests",
        is_there: || is_root() || has_command("fusermount3"),
    },
    Package { name: "util-linux", why: "starts programs where they see it", is_there: || has_command("nsenter") },
];

/// What tests need that cut networks.
pub(crate) const FOR_NETWORKS: &[Package] = &[
    Package { name: "iproute2", why: "joins network namespaces in tests", is_there: || has_system_command("ip") },
    Package { name: "nftables", why: "cuts networks in tests", is_there: || has_system_command("nft") },
];

/// What fetching Go modules needs.
pub(crate) const FOR_GO: &[Package] = &[Package {
    name: "ca-certificates",
    why: "lets Go check whom it downloads from",
    is_there: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
}];

/// Installs those that are missing, after saying which and why.
pub(crate) fn install_missing(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !(package.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("setup: {} is missing: it {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    ensure!(
        has_command("apt-get"),
        "this machine has no apt-get: install {} by hand, then try again",
        names.join(", ")
    );
    // The lists of a fresh container are empty, those of an old machine stale: an update is cheap beside a failure.
    apt_get(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&names);
    apt_get(&arguments)?;
    match missing.iter().find(|package| !(package.is_there)()) {
        Some(package) => bail!("{} was installed but still cannot be found", package.name),
        None => Ok(()),
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        ensure!(has_command("sudo"), "not root and no sudo here: run as root `apt-get {}`", arguments.join(" "));
        let mut sudo = Command::new("sudo");
        sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    let status =
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status().context("starting apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {status}", arguments.join(" "));
    Ok(())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether `PATH` has the command.
pub(crate) fn has_command(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Whether `PATH`, or where users other than root have it not, has the command.
fn has_system_command(name: &str) -> bool {
    has_command(name) || ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(name).is_file())
}

fn has_compiler() -> bool {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "g++".into());
    succeeds(Command::new(compiler).arg("--version")) && has_command("ar")
}

fn has_venv() -> bool {
    // `venv` itself is in Debian's python3; what it needs beyond that comes with python3-venv.
    succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Looks where bindgen looks.
fn has_libclang() -> bool {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut dirs = vec![PathBuf::from("/usr/lib64"), "/usr/lib".into(), "/usr/local/lib".into()];
    dirs.push(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH).into());
    dirs.extend(list("/usr/lib").filter(|dir| file_name_starts_with(dir, "llvm-")).map(|dir| dir.join("lib")));
    dirs.iter().flat_map(list).any(|file| file.file_name().is_some_and(|name| is_libclang(&name.to_string_lossy())))
}

/// `libclang-cpp` is another library, and comes with much that does not bring this one.
fn is_libclang(name: &str) -> bool {
    name.starts_with("libclang.so") || (name.starts_with("libclang-") && !name.starts_with("libclang-cpp."))
}

/// Looks where the tests look.
fn has_faketime() -> bool {
    list("/usr/lib").any(|dir| dir.join("faketime/libfaketimeMT.so.1").exists())
}

fn list(dir: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name_starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_c_plus_plus_is_not_the_one_that_is_wanted() {
        let told =
            ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-cpp.so.14", "libclang"].map(is_libclang);
        assert_eq!(told, [true, true, true, false, false]);
    }
}
