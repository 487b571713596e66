//! Ids of mutating requests: by them the masters recognise a repetition.

use forebay_base::ClientId;
use forebay_proto::v1::RequestMeta;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Numbers the requests of one client and keeps which of them are still open.
#[derive(Debug)]
pub(crate) struct RequestIds {
    client: ClientId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// As many as there are calls under way.
    open: BTreeSet<u64>,
}

/// One mutating request, open until this is dropped. Whoever drops it has the reply or does not want it any more, and
/// will not send the request again.
#[derive(Debug)]
pub(crate) struct RequestId<'a> {
    ids: &'a RequestIds,
    sequence: u64,
}

impl RequestIds {
    pub(crate) fn new() -> RequestIds {
        let state = State { next: 1, open: BTreeSet::new() };
        RequestIds { client: ClientId(rand::random()), state: Mutex::new(state) }
    }

    /// Takes the next id.
    pub(crate) fn begin(&self) -> RequestId<'_> {
        let mut state = self.state.lock();
        let sequence = state.next;
        state.next += 1;
        state.open.insert(sequence);
        RequestId { ids: self, sequence }
    }
}

impl RequestId<'_> {
    /// The id as it goes over the wire.
    pub(crate) fn meta(&self) -> Option<RequestMeta> {
        let state = self.ids.state.lock();
        Some(RequestMeta {
            client: self.ids.client.0,
            sequence: self.sequence,
            acked_below: state.open.first().copied().unwrap_or(state.next),
        })
    }
}

impl Drop for RequestId<'_> {
    fn drop(&mut self) {
        self.ids.state.lock().open.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledges_up_to_the_oldest_open_one() {
        let ids = RequestIds::new();
        let numbers = |id: &RequestId<'_>| {
            let meta = id.meta().unwrap();
            (meta.sequence, meta.acked_below)
        };
        let first = ids.begin();
        let second = ids.begin();
        assert_eq!((numbers(&first), numbers(&second)), ((1, 1), (2, 1)));
        drop(second);
        let third = ids.begin();
        assert_eq!(numbers(&third), (3, 1));
        drop(first);
        assert_eq!(numbers(&third), (3, 3));
    }
}
