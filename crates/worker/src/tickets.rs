//! Tickets are checked once and remembered by their bytes: a reader of small ranges shows the same one again and again.

use crate::error::RequestError;
use crate::file::TicketFile;
use bytes::Bytes;
use forebay_base::Clock;
use forebay_proto::ticket::Ticket;
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// The keys of the cluster and the tickets verified with them.
pub(crate) struct Tickets {
    keys: RwLock<Arc<Vec<Vec<u8>>>>,
    verified: Cache<Bytes, Arc<TicketFile>>,
    clock: Arc<dyn Clock>,
}

impl Tickets {
    pub(crate) fn new(count_max: usize, clock: Arc<dyn Clock>) -> Tickets {
        Tickets { keys: RwLock::default(), verified: Cache::new(count_max), clock }
    }

    /// Takes the keys of a new view. Tickets signed with a key that is gone are not good any more.
    pub(crate) fn set_keys(&self, keys: &[Vec<u8>]) {
        let mut known = self.keys.write();
        if **known != keys {
            *known = Arc::new(keys.to_vec());
            self.verified.clear();
        }
    }

    /// What a ticket is for, if it is good.
    pub(crate) fn check(&self, bytes: &Bytes) -> Result<Arc<TicketFile>, RequestError> {
        let file = match self.verified.get(bytes) {
            Some(file) => file,
            None => self.verify(bytes)?,
        };
        file.ticket.check_time(self.clock.now())?;
        Ok(file)
    }

    fn verify(&self, bytes: &Bytes) -> Result<Arc<TicketFile>, RequestError> {
        let keys = self.keys.read();
        let ticket = Ticket::verify(bytes, &keys)?;
        // Copied: the bytes as they came share the connection's buffer.
        let bytes = Bytes::copy_from_slice(bytes);
        let file = Arc::new(TicketFile::new(ticket, bytes.clone())?);
        // Under the lock of the keys, so that no ticket slips in after they changed.
        self.verified.insert(bytes, file.clone());
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::TimestampMs;
    use forebay_proto::ticket::TicketError;

    struct At(u64);
    impl Clock for At {
        fn now(&self) -> TimestampMs {
            TimestampMs(self.0)
        }
    }

    fn ticket(inode: u64) -> Ticket {
        Ticket { inode, page_size: 1 << 20, block_size: 1 << 20, expires_ms: 100, ..Ticket::default() }
    }

    #[test]
    fn a_ticket_is_good_until_its_key_or_its_time_is_gone() {
        let tickets = Tickets::new(10, Arc::new(At(100)));
        let signed = ticket(1).sign(b"one");
        assert!(tickets.check(&signed).is_err(), "no keys yet");
        tickets.set_keys(&[b"one".to_vec()]);
        assert_eq!(tickets.check(&signed).unwrap().ticket, ticket(1));
        assert_eq!(tickets.check(&signed).unwrap().bytes, signed);
        tickets.set_keys(&[b"two".to_vec(), b"one".to_vec()]);
        assert!(tickets.check(&signed).is_ok());
        tickets.set_keys(&[b"two".to_vec()]);
        assert!(matches!(tickets.check(&signed), Err(RequestError::Ticket(TicketError::BadSignature))));
        let late = Tickets::new(10, Arc::new(At(101)));
        late.set_keys(&[b"one".to_vec()]);
        for _ in 0..2 {
            assert!(matches!(late.check(&signed), Err(RequestError::Ticket(TicketError::Expired { .. }))));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let tickets = Tickets::new(10, Arc::new(At(0)));
        tickets.set_keys(&[b"k".to_vec()]);
        for inode in 0..1000 {
            tickets.check(&ticket(inode).sign(b"k")).unwrap();
        }
        assert!(tickets.verified.len() <= 10);
    }
}
