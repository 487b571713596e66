//! The configuration file of one process.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::node::Addresses;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds the namespace.
    Master,
    /// Holds cached pages.
    Worker,
}

/// A tier of the cache with one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// `mem`, `ssd` or `hdd`.
    pub kind: String,
    /// Absolute, or relative to the process's own directory.
    pub directory: String,
    /// As people write it: `1GiB`.
    pub quota: String,
}

impl Tier {
    /// A directory on disk.
    pub fn ssd(directory: &str, quota: &str) -> Self {
        Self { kind: "ssd".to_owned(), directory: directory.to_owned(), quota: quota.to_owned() }
    }

    /// A directory on tmpfs.
    pub fn mem(directory: &str, quota: &str) -> Self {
        Self { kind: "mem".to_owned(), ..Self::ssd(directory, quota) }
    }
}

/// The settings of one process, besides its ports and directory.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// What it does.
    pub roles: Vec<Role>,
    /// The masters as `host:port`.
    pub masters: Vec<String>,
    /// The worker's tiers.
    pub tiers: Vec<Tier>,
    /// Top-level TOML put in front.
    pub extra_toml: String,
    /// Its data and relative tiers lie in its directory there, not with its settings.
    pub data_in: Option<PathBuf>,
    /// Its wall clock can be set.
    pub own_clock: bool,
}

impl NodeSettings {
    /// The file's text for a process in `dir` that listens on `addresses`.
    pub(super) fn toml(&self, dir: &Path, addresses: &Addresses) -> String {
        let mut text = self.extra_toml.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.write(&mut text, dir, addresses).expect("writing to a string does not fail");
        text
    }

    /// Dotted keys throughout, so that they may stand behind any top-level keys of the caller.
    fn write(&self, text: &mut String, dir: &Path, addresses: &Addresses) -> std::fmt::Result {
        let own = dir.file_name().unwrap_or_default();
        let elsewhere = self.data_in.as_ref().map(|parent| parent.join(own));
        let dir = elsewhere.as_deref().unwrap_or(dir);
        let roles: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        writeln!(text, "roles = {roles:?}")?;
        writeln!(text, "masters = {:?}", self.masters)?;
        writeln!(text, "data_dir = {:?}", dir.join("data"))?;
        writeln!(text, "web.listen = \"{}\"", addresses.web.address())?;
        if let Some(master) = &addresses.master {
            writeln!(text, "master.listen = \"{}\"", master.port.address())?;
            if master.advertised != master.port.address() {
                writeln!(text, "master.advertise = \"{}\"", master.advertised)?;
            }
        }
        writeln!(text, "worker.listen = \"{}\"", addresses.data.address())?;
        writeln!(text, "worker.control_listen = \"{}\"", addresses.control.address())?;
        let tiers: Vec<String> = self.tiers.iter().map(|tier| tier.toml(dir)).collect();
        if !tiers.is_empty() {
            writeln!(text, "worker.tiers = [{}]", tiers.join(", "))?;
        }
        Ok(())
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Worker => "worker",
        }
    }
}

impl Tier {
    fn toml(&self, dir: &Path) -> String {
        let Self { kind, directory, quota } = self;
        let path = dir.join(directory);
        format!("{{ kind = {kind:?}, directories = [{{ path = {path:?}, quota = {quota:?} }}] }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::site::Site;

    #[test]
    fn the_file_names_everything() {
        let settings = NodeSettings {
            roles: vec![Role::Master, Role::Worker],
            masters: vec!["127.0.0.1:1".to_owned()],
            tiers: vec![Tier::mem("/dev/shm/x", "1MiB"), Tier::ssd("cache", "1GiB")],
            data_in: None,
            extra_toml: "log.level = \"debug\"".to_owned(),
            own_clock: false,
        };
        let addresses = Addresses::reserve(&Site::new(None, 0), None).unwrap();
        let text = settings.toml(Path::new("/tmp/n"), &addresses);
        let expected = format!(
            r#"log.level = "debug"
roles = ["master", "worker"]
masters = ["127.0.0.1:1"]
data_dir = "/tmp/n/data"
web.listen = "{}"
worker.listen = "{}"
worker.control_listen = "{}"
worker.tiers = [{{ kind = "mem", directories = [{{ path = "/dev/shm/x", quota = "1MiB" }}] }}, {{ kind = "ssd", directories = [{{ path = "/tmp/n/cache", quota = "1GiB" }}] }}]
"#,
            addresses.web.address(),
            addresses.data.address(),
            addresses.control.address(),
        );
        assert_eq!(text, expected);
    }
}
