//! `! → State`: what the state machine holds about itself.

use super::{Pending, Result, kind};
use crate::record::State;
use forebay_metastore::Read;

pub(crate) const KEY: &[u8] = &[kind::STATE];

pub(crate) fn get(read: &dyn Read) -> Result<Option<State>> {
    super::get(read, KEY)
}

pub(crate) fn put(pending: &mut Pending, state: &State) {
    super::put(pending, KEY.into(), state);
}
