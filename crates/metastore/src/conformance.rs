//! What every [`Store`](crate::Store) must do, as one suite.
