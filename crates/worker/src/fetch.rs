//! The read-through engine: gets missing pages into the cache, each once.
//!
//! A request ([`demand`], [`fill`]) joins the fetches under way and claims what nobody fetches yet ([`flight`]). A claim becomes a task ([`get`]) that reads
//! neighbouring pages from the best source ([`feed`]), publishes each as it is complete ([`page`]), and has it written to the page store beside that ([`writer`]).

pub(crate) mod demand;
pub(crate) mod feed;
pub(crate) mod fill;
pub(crate) mod flight;
pub(crate) mod get;
pub(crate) mod page;
pub(crate) mod writer;
