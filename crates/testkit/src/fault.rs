//! An HTTP proxy to put before an S3 server: it slows, breaks and falsifies what it is told to, and counts what was asked
//! and what was sent.
//!
//! Requests pass as they came, Host header included, so that signatures stay valid. [`Link`] gives every request latency
//! and bandwidth; a [`Fault`] strikes the requests that its [`When`] matches. The hard problem is to break connections
//! as networks do: see `socket` for the reset and `relay` for bodies that end early.

mod counts;
mod link;
mod proxy;
mod relay;
mod rules;
mod socket;

pub use counts::{Seen, Totals};
pub use link::Link;
pub use proxy::Proxy;
pub use rules::{Fault, Hold, RuleId, When};
