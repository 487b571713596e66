//! Idle connections to one worker, kept for the next request.

use super::connection::Connection;
use super::fault::Fault;
use super::socket::Socket;
use crate::config::ClientConfig;
use crate::metrics;
use crate::types::WorkerInfo;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Connections that were idle for longer are closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The connections to one worker's data port.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    connect: Duration,
    /// The last used one is used first, so that those not needed become old.
    idle: Mutex<Vec<(Connection, Instant)>>,
    /// One permit for each connection in use.
    permits: Arc<Semaphore>,
}

/// A connection in use. Dropped without [`give_back`](Pooled::give_back) it is closed: an answer may still be under way on it.
#[derive(Debug)]
pub(crate) struct Pooled {
    pool: Arc<Pool>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

/// Whether a connection that was used before may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Any,
    /// An idle one just turned out to be closed: the others probably are too.
    New,
}

impl Pool {
    pub(crate) fn new(info: &WorkerInfo, config: &ClientConfig) -> Arc<Pool> {
        Arc::new(Pool {
            address: info.data.clone(),
            connect: config.deadlines.worker_connect,
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(config.connections_per_worker_max.max(1))),
        })
    }

    /// A connection; waits `patience` at most when all that are allowed are in use.
    pub(crate) async fn get(self: &Arc<Self>, freshness: Freshness, patience: Duration) -> Result<Pooled, Fault> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(patience, self.permits.clone().acquire_owned())
                .await
                .map_err(|_| Fault::Crowded(patience))?
                .expect("the semaphore is never closed"),
        };
        let connection = match self.take_idle(freshness) {
            Some(connection) => connection,
            None => {
                metrics::connections_opened().increment(1);
                Connection::new(Socket::tcp(&self.address, self.connect).await?)
            }
        };
        Ok(Pooled { pool: self.clone(), connection: Some(connection), _permit: permit })
    }

    fn take_idle(&self, freshness: Freshness) -> Option<Connection> {
        let mut idle = self.idle.lock();
        if freshness == Freshness::New {
            idle.clear();
        }
        let (connection, since) = idle.pop()?;
        if since.elapsed() > IDLE_MAX {
            // Those below it have been idle for even longer.
            idle.clear();
            return None;
        }
        let old = idle.iter().take_while(|(_, since)| since.elapsed() > IDLE_MAX).count();
        idle.drain(..old);
        Some(connection)
    }
}

impl Pooled {
    /// Makes the connection free for the next request. Nothing but the end of the last answer may still come on it.
    pub(crate) fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.used_before = true;
            let mut idle = self.pool.idle.lock();
            idle.push((connection, Instant::now()));
        }
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("in use until given back")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("in use until given back")
    }
}
