//! The stores of the mounts, opened when they are first needed.

use crate::error::RequestError;
use forebay_base::MountId;
use forebay_proto::v1::{MountSpec, WorkerMount};
use forebay_ufs::{Ufs, UfsResult};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// How the store of a mount is opened. A boundary, so that tests and embedders can put their own store behind a mount.
pub trait OpenStore: Send + Sync + 'static {
    /// Makes the store of `spec`. Does no I/O.
    fn open(&self, spec: &MountSpec) -> UfsResult<Arc<dyn Ufs>>;
}

/// Opens what the URI says.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealStores;

impl OpenStore for RealStores {
    fn open(&self, spec: &MountSpec) -> UfsResult<Arc<dyn Ufs>> {
        let options = forebay_ufs::OpenOptions::from_mount(
            &spec.uri,
            spec.options.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            spec.secrets.iter().map(|(k, v)| (k.as_str(), v.as_str())),
        )?;
        forebay_ufs::open(&spec.uri, &options)
    }
}

/// The stores by mount. At most as many as there are mounts.
pub(crate) struct Stores {
    opener: Arc<dyn OpenStore>,
    mounts: RwLock<HashMap<MountId, Mount>>,
}

struct Mount {
    spec: MountSpec,
    /// None until it is first needed.
    store: Option<Arc<dyn Ufs>>,
}

impl Stores {
    pub(crate) fn new(opener: Arc<dyn OpenStore>) -> Stores {
        Stores { opener, mounts: RwLock::default() }
    }

    /// Takes the mounts of a new view. A store whose spec is the same stays open; requests that use an old one keep it.
    pub(crate) fn set_mounts(&self, mounts: &[WorkerMount]) {
        let mut known = self.mounts.write();
        let mut old = std::mem::take(&mut *known);
        for mount in mounts {
            let id = MountId(mount.mount);
            let spec = mount.spec.clone().unwrap_or_default();
            let kept = old.remove(&id).filter(|mount| mount.spec == spec);
            known.insert(id, kept.unwrap_or(Mount { spec, store: None }));
        }
    }

    /// The store of a mount, opened if it is not yet.
    pub(crate) fn get(&self, id: MountId) -> Result<Arc<dyn Ufs>, RequestError> {
        if let Some(mount) = self.mounts.read().get(&id)
            && let Some(store) = &mount.store
        {
            return Ok(store.clone());
        }
        let mut mounts = self.mounts.write();
        let mount = mounts.get_mut(&id).ok_or(RequestError::UnknownMount(id))?;
        if mount.store.is_none() {
            mount.store = Some(self.opener.open(&mount.spec)?);
        }
        mount.store.clone().ok_or(RequestError::UnknownMount(id))
    }
}
