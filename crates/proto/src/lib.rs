//! What goes over the wire: gRPC messages of the control plane ([`v1`]), frames of the data plane ([`frame`]),
//! the tickets by which a worker knows what a client may do ([`ticket`]), where the parts of an upload lie ([`parts`]),
//! how gRPC servers take connections ([`connections`]), and how all connect ([`dial`]).

pub mod connections;
pub mod dial;
pub mod error;
pub mod frame;
pub mod parts;
pub mod ticket;

/// The control plane's messages and services, generated from `proto/forebay.proto`, which documents them.
#[allow(missing_docs, unreachable_pub, clippy::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("forebay.v1");

    impl std::fmt::Debug for DirectHttp {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("DirectHttp")
                .field("url", &"(hidden)")
                .field("headers", &self.headers)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(test)]
mod format_tests;
