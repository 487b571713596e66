//! The connections to one worker on which descriptors are leased.

use super::link::Link;
use crate::data::fault::Fault;
use crate::types::WorkerInfo;
use forebay_base::FileId;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests on one connection wait for each other, so there are a few; a file is always on the same one.
const LINKS: usize = 4;
/// A socket that could not be connected (we may be in another container) is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The connections, made when first needed and again when they break.
#[derive(Debug)]
pub(crate) struct Links {
    socket: PathBuf,
    links: [Mutex<State>; LINKS],
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Connected(Arc<Link>),
    Failed(Instant),
}

impl Links {
    pub(crate) fn new(info: &WorkerInfo) -> Links {
        Links { socket: PathBuf::from(&info.unix_socket), links: Default::default() }
    }

    /// The connection for a file; none when it failed a moment ago.
    pub(crate) async fn get(&self, file: FileId, patience: Duration) -> Result<Option<Arc<Link>>, Fault> {
        let state = &self.links[(file.inode.0 % LINKS as u64) as usize];
        match &*state.lock() {
            State::Connected(link) if link.is_alive() => return Ok(Some(link.clone())),
            State::Failed(at) if at.elapsed() < RETRY_AFTER => return Ok(None),
            _ => {}
        }
        let connected = Link::connect(&self.socket, patience).await;
        let mut state = state.lock();
        match connected {
            Err(fault) => {
                *state = State::Failed(Instant::now());
                Err(fault)
            }
            Ok(link) => {
                // Another may have been quicker: then this one is closed again.
                if let State::Connected(first) = &*state
                    && first.is_alive()
                {
                    return Ok(Some(first.clone()));
                }
                *state = State::Connected(link.clone());
                Ok(Some(link))
            }
        }
    }
}
