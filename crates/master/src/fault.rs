//! Places where a test stops an operation as a crash would: between the store's change and the commit.

use crate::error::Result;

#[cfg(any(test, feature = "testing"))]
mod planted {
    use std::cell::RefCell;
    use std::collections::HashSet;

    thread_local! {
        pub(super) static POINTS: RefCell<HashSet<&'static str>> = RefCell::default();
    }
}

/// Makes [`point`] fail at this place, on this thread, until [`clear`]: in the masters of a test whose runtime has no other thread.
#[cfg(any(test, feature = "testing"))]
pub fn plant(point: &'static str) {
    planted::POINTS.with_borrow_mut(|points| points.insert(point));
}

/// Takes a planted fault away.
#[cfg(any(test, feature = "testing"))]
pub fn clear(point: &'static str) {
    planted::POINTS.with_borrow_mut(|points| points.remove(point));
}

/// Fails when a test planted a fault here; costs nothing otherwise.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn point(name: &str) -> Result<()> {
    if planted::POINTS.with_borrow(|points| points.contains(name)) {
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
