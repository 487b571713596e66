//! Loading a directory ahead: who asks for one path of it and then for another is likely to ask for more.
//!
//! Each question costs the store a request and the log a command, where a listing brings a thousand entries for one of each. So the second path of a
//! directory that is asked for within a short time has its entries listed in the background. Nobody waits for that: who asks gets the
//! answer to their own question, until the listing has found the name. Names that it does not find are asked for as before: what other programs put there
//! since shows at once. A directory that is too large is left after some pages, and left alone for a while.

use super::listing;
use crate::core::Core;
use crate::freshness::SyncInterval;
use crate::mounts::Mounted;
use crate::sync::Watermark;
use forebay_base::{MountId, NsPath};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Two questions within this time are one after the other.
const WITHIN: Duration = Duration::from_secs(10);
/// Directories remembered: about 200 bytes each.
const DIRECTORIES_MAX: usize = 4096;
/// Steps of a listing that are waited for: pages of a thousand entries.
const PAGES_MAX: usize = 20;
/// How long a directory that has more is left alone.
const TOO_LARGE_FOR: Duration = Duration::from_secs(600);
/// Listings ahead at a time, so that most places are left to those who wait for one.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy)]
enum Seen {
    /// A path of it was asked for.
    Asked(Instant),
    /// It was listed, or is too large for that: nothing begins before then.
    LeftAloneUntil(Instant),
}

/// What was asked for lately.
pub(super) struct Ahead {
    seen: Cache<(MountId, NsPath), Seen>,
    places: Arc<Semaphore>,
}

impl Ahead {
    pub(super) fn new(listings_max: usize) -> Ahead {
        let at_once = AT_ONCE.min(listings_max.div_ceil(2)).max(1);
        Ahead { seen: Cache::new(DIRECTORIES_MAX), places: Arc::new(Semaphore::new(at_once)) }
    }

    /// Remembers that a path of a directory was asked for; whether its entries are to be listed.
    fn is_second(&self, mount: MountId, directory: &NsPath, now: Instant) -> bool {
        let id = (mount, directory.clone());
        let seen = self.seen.get(&id);
        if matches!(seen, Some(Seen::LeftAloneUntil(then)) if now < then) {
            return false;
        }
        self.seen.insert(id, Seen::Asked(now));
        matches!(seen, Some(Seen::Asked(then)) if now.saturating_duration_since(then) < WITHIN)
    }

    fn leave_alone(&self, mount: MountId, directory: &NsPath, until: Instant) {
        self.seen.insert((mount, directory.clone()), Seen::LeftAloneUntil(until));
    }
}

/// How long a listing that begins now will do: names that it does not find, as files that are made, do not cause another.
fn pause(interval: SyncInterval) -> Duration {
    match interval {
        SyncInterval::After(interval) => interval.clamp(WITHIN, TOO_LARGE_FOR),
        SyncInterval::Always | SyncInterval::Never => TOO_LARGE_FOR,
    }
}

/// Notes that the store is to be asked for a path, and begins to list its directory when it is not the first.
pub(super) fn note(core: &Arc<Core>, mount: &Arc<Mounted>, path: &NsPath) {
    let Some(directory) = path.parent().filter(|directory| directory.starts_with(&mount.path)) else {
        return;
    };
    let now = Instant::now();
    if !core.syncs.ahead.is_second(mount.id(), &directory, now) || listing::is_running(core, &directory) {
        return;
    }
    let Ok(place) = Arc::clone(&core.syncs.ahead.places).try_acquire_owned() else {
        return;
    };
    core.syncs.ahead.leave_alone(mount.id(), &directory, now + pause(mount.interval()));
    let (core, mount) = (Arc::clone(core), Arc::clone(mount));
    tokio::spawn(async move {
        let _place = place;
        list(&core, &mount, &directory).await;
    });
}

/// Follows a listing for some pages; what follows it no more stops. Its errors are those of whoever asks next.
async fn list(core: &Arc<Core>, mount: &Arc<Mounted>, directory: &NsPath) {
    let mut arrived = listing::begin_ahead(core, mount, directory);
    for _ in 0..PAGES_MAX {
        if matches!(arrived.watermark(), Ok(Watermark::All) | Err(_)) || arrived.moved().await.is_err() {
            return;
        }
    }
    core.syncs.ahead.leave_alone(mount.id(), directory, Instant::now() + TOO_LARGE_FOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_path_of_a_directory_counts() {
        let ahead = Ahead::new(64);
        let start = Instant::now();
        let second = |directory: &str, after_s| {
            ahead.is_second(MountId(1), &directory.parse().unwrap(), start + Duration::from_secs(after_s))
        };
        assert!(!second("/a", 0) && !second("/b", 1));
        assert!(second("/a", 2));
        assert!(!second("/b", 12), "too long ago");
        assert!(second("/b", 13));
        ahead.leave_alone(MountId(1), &"/a".parse().unwrap(), start + Duration::from_secs(100));
        assert!(!second("/a", 3) && !second("/a", 4));
        assert!(!second("/a", 100) && second("/a", 101));
    }
}
