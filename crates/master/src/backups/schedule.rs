//! Backups at the times that the settings say, as long as this master leads. When the last one was made is asked of the target, so that neither a
//! restart nor another leader begins to count anew.

use super::{Wanted, backup_error, count_failure, create_in_turn, note_last};
use crate::core::Core;
use crate::error::Result;
use crate::settings::BackupSchedule;
use forebay_backup::Target;
use forebay_ufs::{OpenOptions, userinfo};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The clock is looked at again after so long: it may be set.
const LOOK: Duration = Duration::from_secs(60);
/// After the first failure; each further one doubles it, up to the time between two backups.
const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Works until told to stop; ends at once without a schedule.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let Some(schedule) = core.settings.backup.clone() else { return };
    let mut made = None;
    while !stop.is_cancelled() {
        let pause = match stop.run_until_cancelled(tick(&core, &schedule, &mut made)).await {
            Some(Ok(pause)) => pause,
            Some(Err(error)) => {
                count_failure();
                let failures = core.backups.told.lock().failed(error.to_string());
                let pause = (PAUSE_MIN * 2u32.pow(failures.min(10) - 1)).min(PAUSE_MAX).min(schedule.every);
                tracing::warn!(to = %userinfo::hidden(&schedule.to), failures, %error, hint = error.hint, "a backup could not be made; it is tried again in {pause:?}");
                core.backups.told.lock().next_at(core.now_ms() + pause.as_millis() as u64);
                pause
            }
            None => return,
        };
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// Somebody's backup is under way, which is no failure: it may be the one that is due. How long to wait for its end.
fn behind_another(core: &Core, schedule: &BackupSchedule) -> Duration {
    let pause = schedule.every.min(PAUSE_MIN);
    core.backups.told.lock().next_at(core.now_ms() + pause.as_millis() as u64);
    pause
}

/// Makes a backup if it is time; how long to wait then. `made` is when the last one was made, as far as this lead knows.
async fn tick(core: &Core, schedule: &BackupSchedule, made: &mut Option<Instant>) -> Result<Duration> {
    if let Some(left) = made.and_then(|made| schedule.every.checked_sub(made.elapsed())).filter(|left| !left.is_zero())
    {
        return Ok(left.min(LOOK));
    }
    if core.backups.is_running() {
        return Ok(behind_another(core, schedule));
    }
    let options = schedule.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = OpenOptions::from_mount(&schedule.to, options, []).map_err(crate::error::store_error)?;
    let target = Target::open(&schedule.to, &options).map_err(backup_error)?;
    let newest = target.newest(&core.keys.cluster_id).await.map_err(backup_error)?;
    let (now_ms, every_ms) = (core.now_ms(), schedule.every.as_millis() as u64);
    if let Some(newest) = newest {
        core.backups.told.lock().found(&newest);
        note_last(newest.created_ms);
        let due_ms = newest.created_ms + every_ms;
        // One from the future is from a clock that was wrong, and says nothing.
        if newest.created_ms <= now_ms && due_ms > now_ms {
            // So the target need not be asked again before that.
            *made = Instant::now().checked_sub(Duration::from_millis(now_ms - newest.created_ms));
            core.backups.told.lock().next_at(due_ms);
            return Ok(Duration::from_millis(due_ms - now_ms).min(LOOK));
        }
    }
    let wanted = Wanted { target, full: false, keep: Some(schedule.keep as usize).filter(|keep| *keep > 0) };
    let Ok(turn) = core.backups.turn() else { return Ok(behind_another(core, schedule)) };
    create_in_turn(core, turn, &wanted, &|_| ()).await?;
    *made = Some(Instant::now());
    core.backups.told.lock().next_at(core.now_ms() + every_ms);
    Ok(schedule.every.min(LOOK))
}
