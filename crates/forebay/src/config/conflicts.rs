//! Values that work alone and not together: two listeners at one port, two tiers in one directory.

use super::{Role, Settings};
use std::{
    net::{IpAddr, SocketAddr},
    path::{Component, Path, PathBuf},
};

/// Two settings that cannot both hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The second of them.
    pub(crate) key: String,
    pub(crate) value: String,
    /// The first one.
    pub(crate) with: String,
    pub(crate) reason: String,
}

/// Everything that can be found without a look at the disks: commands load the configuration too, and a dead disk must not hold them.
pub(super) fn check(settings: &Settings) -> Vec<Conflict> {
    let mut found = ports(settings);
    found.extend(directories(settings, without_dots));
    found
}

/// Directories that are one and the same, or one in the other, behind links (*blocking*).
pub(crate) fn behind_links(settings: &Settings) -> Vec<Conflict> {
    directories(settings, resolved)
}

/// The roles of one process listen side by side: ports that are equal, on hosts that meet.
fn ports(settings: &Settings) -> Vec<Conflict> {
    let has = |role| settings.roles.contains(&role);
    let listeners = [
        (true, "web.listen", &settings.web.listen),
        (has(Role::Master), "master.listen", &settings.master.listen),
        (has(Role::Worker), "worker.listen", &settings.worker.listen),
        (has(Role::Worker), "worker.control_listen", &settings.worker.control_listen),
    ];
    let listeners: Vec<_> = listeners.into_iter().filter(|(used, ..)| *used).collect();
    pairs(&listeners)
        .filter(|((_, _, one), (_, _, other))| meet(one, other))
        .map(|((_, with, _), (_, key, value))| Conflict {
            key: (*key).to_owned(),
            value: format!("{value:?}"),
            with: (*with).to_owned(),
            reason: format!("{with} has the same port on this host: give each its own, or 0 for a free one"),
        })
        .collect()
}

/// A master of several that is in nobody's list: those that have the list would not find it, and it does not start. Where it is clear without asking
/// for names of hosts.
pub(super) fn outside_of_masters(settings: &Settings) -> Option<Conflict> {
    let Settings { masters, master, .. } = settings;
    if !settings.roles.contains(&Role::Master) || masters.len() < 2 {
        return None;
    }
    let own = own_address(settings)?;
    let named = !master.advertise.is_empty();
    let (key, value) = if named { ("master.advertise", &master.advertise) } else { ("master.listen", &master.listen) };
    (!masters.contains(&own)).then(|| Conflict {
        key: key.to_owned(),
        value: format!("{value:?}"),
        with: "masters".to_owned(),
        reason: format!(
            "masters names {masters:?}, and this one is reached at {own:?}; set master.advertise to its address in the list, or put it into the list of all"
        ),
    })
}

/// What the others call a master with these settings; none where only its start shows it.
fn own_address(settings: &Settings) -> Option<String> {
    let own = &settings.master;
    if !own.advertise.is_empty() || settings.masters.contains(&own.listen) {
        return Some(if own.advertise.is_empty() { own.listen.clone() } else { own.advertise.clone() });
    }
    let (host, port) = own.listen.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = address(host)?;
    Some(match host.is_unspecified() {
        true => format!("{}:{port}", rustix::system::uname().nodename().to_string_lossy()),
        false => SocketAddr::new(host, port).to_string(),
    })
}

/// Each two, in their order.
fn pairs<T>(items: &[T]) -> impl Iterator<Item = (&T, &T)> {
    items.iter().enumerate().flat_map(|(at, one)| items[at + 1..].iter().map(move |other| (one, other)))
}

/// Whether both cannot be listened on at the same time. Names of hosts meet only their like: what they stand for is known later.
fn meet(one: &str, other: &str) -> bool {
    let (Some((one_host, one_port)), Some((other_host, other_port))) = (one.rsplit_once(':'), other.rsplit_once(':'))
    else {
        return false;
    };
    let port = one_port.parse::<u16>();
    if port != other_port.parse() || port.is_err() || port == Ok(0) {
        return false;
    }
    let covers = |all: &str, host: &str| match address(all) {
        // Linux takes IPv4 on it too, unless it is told not to.
        Some(IpAddr::V6(all)) if all.is_unspecified() => true,
        Some(IpAddr::V4(all)) if all.is_unspecified() => !matches!(address(host), Some(IpAddr::V6(_))),
        _ => false,
    };
    let same = match (address(one_host), address(other_host)) {
        (Some(one), Some(other)) => one == other,
        _ => one_host == other_host,
    };
    same || covers(one_host, other_host) || covers(other_host, one_host)
}

fn address(host: &str) -> Option<IpAddr> {
    if host == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Tiers that lie in each other, or where the data directory has its own.
fn directories(settings: &Settings, resolve: impl Fn(&Path) -> PathBuf) -> Vec<Conflict> {
    let mut places = Vec::new();
    for (tier, settings) in settings.worker.tiers.iter().enumerate() {
        for (at, directory) in settings.directories.iter().enumerate() {
            places.push((
                format!("worker.tiers[{tier}].directories[{at}].path"),
                &directory.path,
                resolve(&directory.path),
            ));
        }
    }
    let conflict = |key: &str, path: &Path, with: &str, reason: String| Conflict {
        key: key.to_owned(),
        value: format!("{path:?}"),
        with: with.to_owned(),
        reason,
    };
    let data_dir = resolve(&settings.data_dir);
    let mut found = Vec::new();
    for (key, path, place) in &places {
        if let Some(reason) = harms(place, &data_dir) {
            found.push(conflict(key, path, "data_dir", reason));
        }
    }
    for ((with, _, one), (key, path, other)) in pairs(&places) {
        let relation = match (one == other, one.starts_with(other) || other.starts_with(one)) {
            (true, _) => "is the same directory",
            (_, true) => "lies in one line with it: one would hold the other",
            _ => continue,
        };
        found.push(conflict(key, path, with, format!("{with} {relation}; give each a directory of its own")));
    }
    found
}

/// A tier below `data_dir` is fine, but not where other things lie.
fn harms(place: &Path, data_dir: &Path) -> Option<String> {
    let shown = data_dir.display();
    if place == data_dir {
        return Some(format!("it is data_dir itself: take a directory in it, such as {shown}/cache"));
    }
    if data_dir.starts_with(place) {
        return Some(format!("data_dir ({shown}) lies in it: take a directory that has nothing else"));
    }
    if place.starts_with(data_dir.join("master")) || place == data_dir.join("worker") {
        return Some(format!("a role keeps its own files there: take another one, such as {shown}/cache"));
    }
    None
}

/// The path without `.` and `..`, as far as that can be told from its text.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The path with links resolved as far as it exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { without_dots(&real.join(rest)) };
        }
    }
    without_dots(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DirectorySettings, TierKind, TierSettings};
    use forebay_base::ByteSize;

    fn check_ports(change: impl FnOnce(&mut Settings), expected: &[(&str, &str)]) {
        let mut settings = Settings::default();
        change(&mut settings);
        let found = ports(&settings);
        let found: Vec<_> = found.iter().map(|c| (c.with.as_str(), c.key.as_str())).collect();
        assert_eq!(found, expected, "{settings:?}");
    }

    #[test]
    fn listeners_at_one_port() {
        check_ports(|_| {}, &[]);
        check_ports(|s| s.worker.listen = "127.0.0.1:7400".into(), &[("master.listen", "worker.listen")]);
        check_ports(|s| s.worker.listen = "localhost:7400".into(), &[("master.listen", "worker.listen")]);
        check_ports(|s| s.worker.listen = "0.0.0.0:7400".into(), &[("master.listen", "worker.listen")]);
        check_ports(|s| s.worker.listen = "[::]:7400".into(), &[("master.listen", "worker.listen")]);
        check_ports(|s| s.worker.listen = "127.0.0.2:7400".into(), &[]);
        check_ports(|s| s.worker.listen = "[::1]:7400".into(), &[]);
        check_ports(|s| s.web.listen = "0.0.0.0:7411".into(), &[("web.listen", "worker.control_listen")]);
        check_ports(|s| s.web.listen = "off".into(), &[]);
        let all_free = |s: &mut Settings| {
            for listen in [&mut s.web.listen, &mut s.master.listen, &mut s.worker.listen, &mut s.worker.control_listen]
            {
                *listen = "127.0.0.1:0".into();
            }
        };
        check_ports(all_free, &[]);
        let worker_alone = |s: &mut Settings| {
            s.roles = vec![Role::Worker];
            s.worker.listen = "127.0.0.1:7400".into();
        };
        check_ports(worker_alone, &[]);
    }

    #[test]
    fn a_master_that_its_list_does_not_name() {
        let check = |listen: &str, advertise: &str, masters: &[&str], expected: Option<(&str, &str)>| {
            let mut settings =
                Settings { masters: masters.iter().map(|&m| m.to_owned()).collect(), ..Settings::default() };
            settings.master.listen = listen.to_owned();
            settings.master.advertise = advertise.to_owned();
            let found = outside_of_masters(&settings).map(|c| (c.key, c.reason));
            match (found, expected) {
                (None, None) => {}
                (Some((key, reason)), Some((wanted, at))) => {
                    assert!(
                        key == wanted && reason.contains(&format!("is reached at {at:?}; set master.advertise")),
                        "{key}: {reason}"
                    );
                }
                (found, _) => panic!("{listen} {advertise} {masters:?}: {found:?}"),
            }
            settings.roles = vec![Role::Worker];
            assert_eq!(outside_of_masters(&settings), None, "it is none");
        };
        let list = &["10.0.0.1:7400", "m2:7400"][..];
        check("10.0.0.1:7400", "", list, None);
        check("m2:7400", "", list, None);
        check("0.0.0.0:7400", "m2:7400", list, None);
        check("10.0.0.9:7400", "", list, Some(("master.listen", "10.0.0.9:7400")));
        check("10.0.0.1:7401", "", list, Some(("master.listen", "10.0.0.1:7401")));
        check("10.0.0.1:7400", "m3:7400", list, Some(("master.advertise", "m3:7400")));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        check("0.0.0.0:7400", "", list, Some(("master.listen", &format!("{host}:7400"))));
        check("0.0.0.0:7400", "", &[&format!("{host}:7400"), "m2:7400"], None);
        // What a name stands for is known when the server starts.
        check("m3:7400", "", list, None);
        // The only one runs alone, wherever clients find it.
        check("10.0.0.9:7400", "", &["10.0.0.1:7400"], None);
    }

    fn with_tiers(data_dir: &Path, paths: &[&Path]) -> Settings {
        let directory = |path: &&Path| DirectorySettings { path: path.to_path_buf(), quota: ByteSize::gib(1) };
        let tier = |path| TierSettings { kind: TierKind::Ssd, directories: vec![directory(path)] };
        let mut settings = Settings { data_dir: data_dir.into(), ..Settings::default() };
        settings.worker.tiers = paths.iter().map(tier).collect();
        settings
    }

    fn check_tiers(paths: &[&str], expected: &[(&str, usize)]) {
        let paths: Vec<_> = paths.iter().map(Path::new).collect();
        let found = directories(&with_tiers(Path::new("/data"), &paths), without_dots);
        let key = |tier| format!("worker.tiers[{tier}].directories[0].path");
        let found: Vec<_> = found.iter().map(|c| (c.with.clone(), c.key.clone())).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(with, tier)| {
                (with.parse().map_or_else(|_| (*with).to_owned(), |first: usize| key(first)), key(*tier))
            })
            .collect();
        assert_eq!(found, expected, "{paths:?}");
    }

    #[test]
    fn tiers_that_lie_in_each_other_or_in_the_way() {
        check_tiers(&["/a", "/b", "/ab"], &[]);
        check_tiers(&["/a", "/a/"], &[("0", 1)]);
        check_tiers(&["/a", "/x", "/b/../a"], &[("0", 2)]);
        check_tiers(&["/a", "/a/b"], &[("0", 1)]);
        check_tiers(&["/a/b", "/a"], &[("0", 1)]);
        check_tiers(&["/data/worker/ssd", "/data/cache"], &[]);
        for harmful in ["/data", "/", "/data/master", "/data/master/log", "/data/worker"] {
            check_tiers(&[harmful], &[("data_dir", 0)]);
        }
    }

    #[test]
    fn links_are_followed_when_it_is_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let (one, link) = (home.path().join("one"), home.path().join("link"));
        std::fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let settings = with_tiers(&home.path().join("data"), &[&one, &link.join("not-yet")]);
        assert_eq!(check(&settings), []);
        assert_eq!(behind_links(&settings).len(), 1);
    }
}
