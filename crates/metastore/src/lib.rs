//! An ordered key-value store under the replicated log: one small trait, in memory and on RocksDB.
//!
//! [`Store`] is the boundary and has the contract. [`MemStore`] and [`RocksStore`] implement it, `conformance` holds both to it.
//! [`Overlay`] lays pending writes over any reader, so that many commands become one batch and each sees those before it.
//! What keys and values mean is the business of the crates above.

mod batch;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod error;
mod mem;
mod overlay;
mod range;
mod rocks;
mod store;

pub use batch::{Batch, Op};
pub use error::{Result, StoreError};
pub use mem::MemStore;
pub use overlay::Overlay;
pub use range::{Direction, KeyRange};
pub use rocks::{RocksSettings, RocksStore, RocksView};
pub use store::{Read, Row, Rows, Snapshot, Store};
