//! Two names of one object: a copy onto itself, with the source removed after it, would be a loss.
//!
//! Two mounts may show the same bucket or directory, and a mounted directory may be on this machine.

use super::check::mount_of;
use crate::cli::fs::copy::{Source, Target, resolved};
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, Error, Mount, StatOptions, SyncMode};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Where a path's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Located {
    /// `file`, or scheme and bucket.
    store: String,
    /// Which server it is; the same bucket at another one may be the same or not.
    endpoint: String,
    path: PathBuf,
}

/// Refuses a target that is the source, or lies in it, under another name.
pub(super) async fn check(client: &Client, mounts: &[Mount], from: &Source, to: &Target) -> anyhow::Result<()> {
    let (Some(source), Some(target)) = (of_source(mounts, from), of_target(mounts, to)) else { return Ok(()) };
    if source.store != target.store || !target.path.starts_with(&source.path) {
        return Ok(());
    }
    let same = source.endpoint == target.endpoint || source.path == target.path && exists(client, to).await?;
    if !same {
        return Ok(());
    }
    let hint = "if they are two: forebay fs cp -r, and forebay fs rm -r once it is certain";
    let message = match source.endpoint == target.endpoint {
        true => format!("{from} and {to} are the same in their store, or one lies in the other: nothing is moved"),
        false => format!("{from} and {to} may be the same object of one bucket under two endpoints: nothing is moved"),
    };
    Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(hint).into())
}

async fn exists(client: &Client, target: &Target) -> anyhow::Result<bool> {
    let Target::Tree { path, .. } = target else { return Ok(true) };
    match client.stat_with(path, StatOptions { sync: SyncMode::Now, ..StatOptions::default() }).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn of_source(mounts: &[Mount], source: &Source) -> Option<Located> {
    match source {
        Source::Tree(path) => in_tree(mounts, path),
        Source::Local(path) => Some(local(path)),
        Source::Stdin => None,
    }
}

fn of_target(mounts: &[Mount], target: &Target) -> Option<Located> {
    match target {
        Target::Tree { path, .. } => in_tree(mounts, path),
        Target::Local { path, .. } => Some(local(path)),
        Target::Stdout => None,
    }
}

fn in_tree(mounts: &[Mount], path: &NsPath) -> Option<Located> {
    let mount = mount_of(mounts, path)?;
    let below = Path::new(OsStr::from_bytes(path.below(&mount.path)?));
    let (scheme, rest) = mount.spec.uri.split_once("://")?;
    if scheme == "file" {
        return Some(local(&Path::new(rest).join(below)));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    Some(Located {
        store: format!("{scheme}://{bucket}"),
        endpoint: mount.spec.options.get("endpoint").map(|it| it.trim_end_matches('/').to_owned()).unwrap_or_default(),
        path: Path::new(prefix.trim_matches('/')).join(below),
    })
}

fn local(path: &Path) -> Located {
    Located { store: "file".to_owned(), endpoint: String::new(), path: resolved(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::MountId;
    use forebay_client::MountSpec;

    fn mount(path: &str, uri: &str, endpoint: &str) -> Mount {
        let options =
            [("endpoint".to_owned(), endpoint.to_owned())].into_iter().filter(|it| !it.1.is_empty()).collect();
        Mount {
            id: MountId(1),
            path: NsPath::parse(path.as_bytes()).unwrap(),
            spec: MountSpec { uri: uri.to_owned(), options, ..MountSpec::default() },
            credentials: String::new(),
        }
    }

    fn at(mounts: &[Mount], path: &str) -> Located {
        in_tree(mounts, &NsPath::parse(path.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn one_object_under_two_names_is_seen() {
        let mounts = [
            mount("/a", "s3://b/p/", "http://h"),
            mount("/b", "s3://b", "http://h/"),
            mount("/c", "s3://b", "http://other"),
            mount("/d", "file:///no/such", ""),
        ];
        assert_eq!(at(&mounts, "/a/x"), at(&mounts, "/b/p/x"));
        assert_ne!(at(&mounts, "/a/x"), at(&mounts, "/b/x"));
        assert_ne!(at(&mounts, "/a/x"), at(&mounts, "/c/p/x"));
        assert_eq!(at(&mounts, "/a/x").path, at(&mounts, "/c/p/x").path);
        assert_eq!(at(&mounts, "/d/x"), local(Path::new("/no/such/x")));
        assert_eq!(at(&mounts, "/b"), Located { path: PathBuf::new(), ..at(&mounts, "/b/p") });
    }
}
