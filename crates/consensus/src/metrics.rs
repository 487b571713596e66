//! The names of what the log counts; docs/metrics.md says what they are.

pub(crate) const APPLIED_INDEX: &str = "forebay_raft_applied_index";
pub(crate) const APPLY_SECONDS: &str = "forebay_raft_apply_seconds";
pub(crate) const ELECTIONS: &str = "forebay_raft_elections_total";
pub(crate) const ENTRIES_PER_APPLY: &str = "forebay_raft_entries_per_apply";
pub(crate) const FLUSH_SECONDS: &str = "forebay_raft_flush_seconds";
pub(crate) const HAS_LEADER: &str = "forebay_raft_has_leader";
pub(crate) const IS_LEADER: &str = "forebay_raft_is_leader";
pub(crate) const LAST_INDEX: &str = "forebay_raft_last_index";
pub(crate) const LEADER_CHANGES: &str = "forebay_raft_leader_changes_total";
pub(crate) const LOG_BYTES: &str = "forebay_raft_log_bytes_total";
pub(crate) const LOG_ENTRIES_PER_SYNC: &str = "forebay_raft_log_entries_per_sync";
pub(crate) const LOG_SYNC_SECONDS: &str = "forebay_raft_log_sync_seconds";
/// By member.
pub(crate) const MEMBER_LAG: &str = "forebay_raft_member_lag_entries";
/// By member.
pub(crate) const MEMBER_SILENT: &str = "forebay_raft_member_silent_seconds";
pub(crate) const MEMBERS: &str = "forebay_raft_members";
pub(crate) const MEMBERS_SILENT: &str = "forebay_raft_members_silent";
pub(crate) const TERM: &str = "forebay_raft_term";

/// Has all of them shown from the start, with nothing counted yet; those by member begin when the members are known.
pub(crate) fn register() {
    for name in [ELECTIONS, LEADER_CHANGES, LOG_BYTES] {
        ::metrics::counter!(name).increment(0);
    }
    for name in [APPLIED_INDEX, HAS_LEADER, IS_LEADER, LAST_INDEX, MEMBERS, MEMBERS_SILENT, TERM] {
        ::metrics::gauge!(name).increment(0.0);
    }
    for name in [APPLY_SECONDS, ENTRIES_PER_APPLY, FLUSH_SECONDS, LOG_ENTRIES_PER_SYNC, LOG_SYNC_SECONDS] {
        let _: ::metrics::Histogram = ::metrics::histogram!(name);
    }
}
