//! Places where a test stops an operation as a crash would: between the store's change and the commit.

use crate::error::Result;

#[cfg(any(test, feature = "testing"))]
mod planted {
    use parking_lot::Mutex;
    use std::collections::HashSet;
    use std::sync::LazyLock;

    pub(super) static POINTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
}

/// Makes [`point`] fail at this place, in the whole process, until [`clear`].
#[cfg(any(test, feature = "testing"))]
pub fn plant(point: &'static str) {
    planted::POINTS.lock().insert(point);
}

/// Takes a planted fault away.
#[cfg(any(test, feature = "testing"))]
pub fn clear(point: &'static str) {
    planted::POINTS.lock().remove(point);
}

/// Fails when a test planted a fault here; costs nothing otherwise.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn point(name: &str) -> Result<()> {
    if planted::POINTS.lock().contains(name) {
        return Err(forebay_proto::error::WireError::new(
            forebay_base::ErrorKind::Unavailable,
            format!("stopped by a test at: {name}"),
        ));
    }
    Ok(())
}

/// Nothing fails here outside tests.
#[cfg(not(any(test, feature = "testing")))]
#[inline]
pub(crate) fn point(_: &str) -> Result<()> {
    Ok(())
}
