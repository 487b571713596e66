//! Who asks one master alone, whether it leads or not, and believes it: a client would go to another master, and never hear what one has to say
//! that was paused or cut off and does not know yet that it has been deposed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use forebay_client::{ErrorKind, NsPath};
use forebay_proto::error::WireError;
use forebay_proto::v1::namespace_client::NamespaceClient;
use forebay_proto::v1::{Entry, StatRequest};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tonic::transport::{Channel, Endpoint};

use crate::ground::{Ground, MARK};
use crate::load::Load;
use crate::model::{Input, NAMES, Output};

/// Longer than anything stays broken: what was asked before a pause is answered after it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A master that is not reached so long is asked again, on another connection.
const CONNECT: Duration = Duration::from_secs(8);
const PAUSE_MS: std::ops::Range<u64> = 5..25;

/// One that looks at one ground through one master.
#[derive(Clone, Debug)]
pub struct Onlooker {
    master: NamespaceClient<Channel>,
    /// Its ground, by number.
    pub ground: usize,
}

impl Onlooker {
    /// Of the master at `host:port`, which is connected to when it is asked, and again when it is gone.
    pub fn new(master: &str, ground: usize) -> Result<Onlooker> {
        let endpoint = Endpoint::from_shared(format!("http://{master}"))?.connect_timeout(CONNECT).timeout(PATIENCE);
        Ok(Onlooker { master: NamespaceClient::new(endpoint.connect_lazy()), ground })
    }

    /// Looks until told to stop.
    pub async fn look(mut self, ground: Arc<Ground>, load: Arc<Load>, seed: u64) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        while !load.is_stopped() {
            let name = random.random_range(0..NAMES);
            let path = ground.name(name).parse::<NsPath>()?;
            ground.witness(&load.clock, Input::Stat(name), self.stat(&path)).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
        }
        Ok(())
    }

    /// What it says of the path; nothing when it says that it does not serve, or is silent.
    async fn stat(&mut self, path: &NsPath) -> Option<Output> {
        let request = StatRequest { path: path.to_string().into(), with_xattrs: true, ..StatRequest::default() };
        match self.master.stat(request).await {
            Ok(reply) => reply.into_inner().entry.map(|entry| Output::Marked(mark_of(&entry))),
            Err(status) => match WireError::from(&status).kind {
                kind @ ErrorKind::NotFound => Some(Output::Refused(kind)),
                _ => None,
            },
        }
    }
}

fn mark_of(entry: &Entry) -> u64 {
    let found = entry.xattrs.iter().find(|xattr| xattr.name == MARK.as_bytes());
    found.map_or(0, |xattr| String::from_utf8_lossy(&xattr.value).parse().expect("marks are numbers"))
}
