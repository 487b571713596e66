//! The end of a write that is not completed.

use super::write::Write;
use crate::error::Result;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long parts under way are waited for. A part that comes to its store after its upload was aborted can stay there, unseen and paid for; but who has
/// interrupted a command does not wait for a slow store. What takes longer is broken off at its worker, and the masters abort once more later.
const PARTS_END_MAX: Duration = Duration::from_secs(2);

/// Lets the parts under way come to their end, and none begin; then tells the masters.
pub(super) async fn give_up<T: 'static>(write: &Write, mut parts: JoinSet<T>) -> Result<()> {
    write.give_up();
    let ended = async { while parts.join_next().await.is_some() {} };
    // Not all of them: the connections of the others are closed, which their workers notice.
    let _ = tokio::time::timeout(PARTS_END_MAX, ended).await;
    parts.shutdown().await;
    write.abandon().await
}
