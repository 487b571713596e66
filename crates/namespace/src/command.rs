//! Every change of the namespace: the envelope, and one file for each command.
//!
//! A command is checked before it changes anything, and what it changed is taken back when it fails half-way. Its work is bounded by its size.

mod abandon_write;
mod add_mount;
mod advance_time;
mod begin_request;
mod complete_file;
mod copies;
mod create_file;
mod delete;
mod expire_writes;
mod forget_writes;
mod make_directory;
mod note_purge;
mod purge_trash;
mod remove_mount;
mod rename;
mod rename_intent;
mod renew_write;
mod set_attributes;
mod set_cluster_version;
mod set_upload;
mod sync_apply;
mod update_mount;

pub use abandon_write::AbandonWrite;
pub use add_mount::AddMount;
pub use advance_time::AdvanceTime;
pub use begin_request::BeginRequest;
pub use complete_file::CompleteFile;
pub use copies::{ForgetCopies, RecordCopies, RetagFiles, Retagged};
pub use create_file::CreateFile;
pub use delete::Delete;
pub use expire_writes::ExpireWrites;
pub use forget_writes::ForgetWrites;
pub use make_directory::MakeDirectory;
pub use note_purge::NotePurge;
pub use purge_trash::{PurgeTrash, TrashedName};
pub use remove_mount::RemoveMount;
pub use rename::Rename;
pub use rename_intent::{BeginRename, CommitRename, EndRename, UndoRename};
pub use renew_write::RenewWrite;
pub use set_attributes::{AttributeChanges, SetAttributes, Target};
pub use set_cluster_version::SetClusterVersion;
pub use set_upload::SetUpload;
pub use sync_apply::{SyncApply, SyncEntry};
pub use update_mount::UpdateMount;

use crate::machine::{Stop, Tx};
use crate::reply::Payload;
use crate::versions;
use bytes::Bytes;
use prost::Message;

/// Which request of which client a command serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Request {
    /// The client, drawn at random by itself.
    #[prost(fixed64, tag = "1")]
    pub client: u64,
    /// From 1, one more with each request of the client.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// The client has the replies of all sequences below this one.
    #[prost(uint64, tag = "3")]
    pub acked_below: u64,
}

/// One entry of the log.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The request that this serves; none for the master's own commands, which are safe to repeat by themselves.
    #[prost(message, optional, tag = "1")]
    pub request: Option<Request>,
    /// The proposer's clock, milliseconds since 1970-01-01 UTC. Log time is the greatest that any command has carried.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// What to do.
    #[prost(
        oneof = "Action",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36"
    )]
    pub action: Option<Action>,
}

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Action {
    /// See [`MakeDirectory`].
    #[prost(message, tag = "10")]
    MakeDirectory(MakeDirectory),
    /// See [`CreateFile`].
    #[prost(message, tag = "11")]
    CreateFile(CreateFile),
    /// See [`SetUpload`].
    #[prost(message, tag = "12")]
    SetUpload(SetUpload),
    /// See [`RenewWrite`].
    #[prost(message, tag = "13")]
    RenewWrite(RenewWrite),
    /// See [`CompleteFile`].
    #[prost(message, tag = "14")]
    CompleteFile(CompleteFile),
    /// See [`AbandonWrite`].
    #[prost(message, tag = "15")]
    AbandonWrite(AbandonWrite),
    /// See [`ExpireWrites`].
    #[prost(message, tag = "16")]
    ExpireWrites(ExpireWrites),
    /// See [`ForgetWrites`].
    #[prost(message, tag = "17")]
    ForgetWrites(ForgetWrites),
    /// See [`Rename`].
    #[prost(message, tag = "18")]
    Rename(Rename),
    /// See [`BeginRename`].
    #[prost(message, tag = "19")]
    BeginRename(BeginRename),
    /// See [`CommitRename`].
    #[prost(message, tag = "20")]
    CommitRename(CommitRename),
    /// See [`EndRename`].
    #[prost(message, tag = "21")]
    EndRename(EndRename),
    /// See [`Delete`].
    #[prost(message, tag = "22")]
    Delete(Delete),
    /// See [`PurgeTrash`].
    #[prost(message, tag = "23")]
    PurgeTrash(PurgeTrash),
    /// See [`SetAttributes`].
    #[prost(message, tag = "24")]
    SetAttributes(SetAttributes),
    /// See [`SyncApply`].
    #[prost(message, tag = "25")]
    SyncApply(SyncApply),
    /// See [`AddMount`].
    #[prost(message, tag = "26")]
    AddMount(AddMount),
    /// See [`UpdateMount`].
    #[prost(message, tag = "27")]
    UpdateMount(UpdateMount),
    /// See [`RemoveMount`].
    #[prost(message, tag = "28")]
    RemoveMount(RemoveMount),
    /// See [`AdvanceTime`].
    #[prost(message, tag = "29")]
    AdvanceTime(AdvanceTime),
    /// See [`SetClusterVersion`].
    #[prost(message, tag = "30")]
    SetClusterVersion(SetClusterVersion),
    /// See [`UndoRename`].
    #[prost(message, tag = "31")]
    UndoRename(UndoRename),
    /// See [`RecordCopies`].
    #[prost(message, tag = "32")]
    RecordCopies(RecordCopies),
    /// See [`ForgetCopies`].
    #[prost(message, tag = "33")]
    ForgetCopies(ForgetCopies),
    /// See [`RetagFiles`].
    #[prost(message, tag = "34")]
    RetagFiles(RetagFiles),
    /// See [`BeginRequest`].
    #[prost(message, tag = "35")]
    BeginRequest(BeginRequest),
    /// See [`NotePurge`].
    #[prost(message, tag = "36")]
    NotePurge(NotePurge),
}

impl Command {
    /// A command of the master's own.
    pub fn internal(time_ms: u64, action: impl Into<Action>) -> Command {
        Command { request: None, time_ms, action: Some(action.into()) }
    }

    /// A command that serves a client's request.
    pub fn requested(request: Request, time_ms: u64, action: impl Into<Action>) -> Command {
        Command { request: Some(request), time_ms, action: Some(action.into()) }
    }

    /// The bytes for the log.
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

impl Action {
    /// The cluster version that brought this command: under an older one nobody may propose it. See [`crate::versions`].
    pub fn since(&self) -> u32 {
        match self {
            Action::NotePurge(_) => versions::PURGE_PLACES,
            _ => versions::FIRST,
        }
    }

    /// Carries the action out.
    pub(crate) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        match self {
            Action::MakeDirectory(action) => action.apply(tx),
            Action::CreateFile(action) => action.apply(tx),
            Action::SetUpload(action) => action.apply(tx),
            Action::RenewWrite(action) => action.apply(tx),
            Action::CompleteFile(action) => action.apply(tx),
            Action::AbandonWrite(action) => action.apply(tx),
            Action::ExpireWrites(action) => action.apply(tx),
            Action::ForgetWrites(action) => action.apply(tx),
            Action::Rename(action) => action.apply(tx),
            Action::BeginRename(action) => action.apply(tx),
            Action::CommitRename(action) => action.apply(tx),
            Action::EndRename(action) => action.apply(tx),
            Action::Delete(action) => action.apply(tx),
            Action::PurgeTrash(action) => action.apply(tx),
            Action::SetAttributes(action) => action.apply(tx),
            Action::SyncApply(action) => action.apply(tx),
            Action::AddMount(action) => action.apply(tx),
            Action::UpdateMount(action) => action.apply(tx),
            Action::RemoveMount(action) => action.apply(tx),
            Action::AdvanceTime(action) => action.apply(tx),
            Action::SetClusterVersion(action) => action.apply(tx),
            Action::UndoRename(action) => action.apply(tx),
            Action::RecordCopies(action) => action.apply(tx),
            Action::ForgetCopies(action) => action.apply(tx),
            Action::RetagFiles(action) => action.apply(tx),
            Action::BeginRequest(action) => action.apply(tx),
            Action::NotePurge(action) => action.apply(tx),
        }
    }
}

macro_rules! into_action {
    ($($name:ident)*) => {
        $(impl From<$name> for Action {
            fn from(action: $name) -> Action {
                Action::$name(action)
            }
        })*
    };
}

into_action!(
    MakeDirectory CreateFile SetUpload RenewWrite CompleteFile AbandonWrite ExpireWrites ForgetWrites Rename BeginRename
    CommitRename EndRename Delete PurgeTrash SetAttributes SyncApply AddMount UpdateMount RemoveMount AdvanceTime
    SetClusterVersion UndoRename RecordCopies ForgetCopies RetagFiles BeginRequest NotePurge
);
