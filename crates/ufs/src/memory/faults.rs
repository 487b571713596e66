//! Faults on demand: what a test makes the memory store do wrong.

use crate::UfsError;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The calls of a store, as fault hooks and counters see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`crate::Ufs::check`].
    Check,
    /// [`crate::Ufs::stat`].
    Stat,
    /// [`crate::Ufs::list`].
    List,
    /// [`crate::Ufs::read`].
    Read,
    /// [`crate::Ufs::put`].
    Put,
    /// [`crate::Ufs::begin_upload`].
    BeginUpload,
    /// [`crate::Ufs::put_part`].
    PutPart,
    /// [`crate::Ufs::complete_upload`].
    CompleteUpload,
    /// [`crate::Ufs::abort_upload`].
    AbortUpload,
    /// [`crate::Ufs::list_uploads`].
    ListUploads,
    /// [`crate::Ufs::make_directory`].
    MakeDirectory,
    /// [`crate::Ufs::delete`], once for each target.
    Delete,
    /// [`crate::Ufs::copy`].
    Copy,
}

/// What happens to one call.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The call fails and has no effect.
    Fail(UfsError),
    /// The call takes effect and its answer is lost.
    FailAfter(UfsError),
    /// The call waits until the test adds a permit, then goes on.
    Hold(Arc<Semaphore>),
    /// The call takes effect, and its answer, taken then, waits until the test adds a permit. Calls but [`crate::Ufs::read`].
    HoldAnswer(Arc<Semaphore>),
    /// The stream of a read breaks with this error after so many bytes.
    BreakBody(u64, UfsError),
}

type Hook = dyn Fn(Operation, &[u8]) -> Fault + Send + Sync;

/// Decides the fault of each call.
#[derive(Clone)]
pub(super) struct FaultHook(pub(super) Arc<Hook>);

impl Default for FaultHook {
    fn default() -> FaultHook {
        FaultHook(Arc::new(|_, _| Fault::None))
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultHook")
    }
}
