//! Waiting for a condition, with a deadline, instead of sleeping.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How long between two looks at the condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `condition` until it says `Some`; after `deadline` fails with `what` was awaited.
pub async fn for_some<T, F>(what: &str, deadline: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain for {what}");
        }
        sleep(INTERVAL).await;
    }
}

/// Asks `condition` until it is true; after `deadline` fails with `what` was awaited.
pub async fn until<F>(what: &str, deadline: Duration, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = bool>,
{
    for_some(what, deadline, || {
        let answer = condition();
        async move { answer.await.then_some(()) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_when_the_condition_holds_or_the_deadline_passes() {
        let mut asked = 0;
        let third = for_some("the third question", Duration::from_secs(10), || {
            asked += 1;
            let answer = (asked == 3).then_some(asked);
            async move { answer }
        });
        assert_eq!(third.await.unwrap(), 3);

        let never = until("the moon", Duration::from_millis(30), || async { false }).await;
        assert_eq!(never.unwrap_err().to_string(), "waited 30ms in vain for the moon");
    }
}
