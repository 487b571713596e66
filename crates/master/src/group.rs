//! This master among the others: who it is, what it has in common with them, and the way to them.

mod keys;
mod transport;

pub(crate) use keys::{find as find_keys, find_running, fit as keys_fit};
pub(crate) use transport::GrpcTransport;

use crate::settings::Settings;
use forebay_consensus::{Consensus, Formation, Member, MemberId, OpenError};
use std::path::Path;

/// Most bytes of a message between masters: entries of 1 MiB or one command, and some more.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Who this master is, and who the others are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) own: Member,
    /// All of the list, this one included; one alone if there is no list.
    pub(crate) all: Vec<Member>,
}

impl Place {
    /// From the list of masters and the address by which others reach this one; `log` is where its log lies, or will.
    pub(crate) fn find(settings: &Settings, address: &str, log: &Path) -> Result<Place, OpenError> {
        let known = Consensus::member_in(log)?;
        if settings.masters.len() <= 1 {
            let own = Member { id: known.unwrap_or(MemberId(1)), address: address.to_owned() };
            return Ok(Place { all: vec![own.clone()], own });
        }
        if !settings.masters.iter().any(|master| master == address) {
            let reason = format!(
                "masters names {:?}, and this one is reached at {address:?}; set master.advertise to its address in the list",
                settings.masters
            );
            return Err(OpenError::Start { reason });
        }
        let own = Member { id: known.unwrap_or(id_of(address)), address: address.to_owned() };
        let member = |master: &String| match master == address {
            true => own.clone(),
            false => Member { id: id_of(master), address: master.clone() },
        };
        Ok(Place { all: settings.masters.iter().map(member).collect(), own })
    }

    /// How a new directory begins.
    pub(crate) fn formation(&self) -> Formation {
        match self.all.len() {
            1 => Formation::Alone,
            _ => Formation::Group(self.all.clone()),
        }
    }

    /// What one that is new waits for when all others answer and none has begun.
    pub(crate) fn waits_for_founder(&self) -> String {
        let founder = self.all.iter().min_by_key(|member| member.id);
        format!("{} has not begun yet", founder.unwrap_or(&self.own).address)
    }

    /// Whether this one founds the group.
    pub(crate) fn founds(&self) -> bool {
        self.all.iter().all(|member| self.own.id <= member.id)
    }
}

/// The member at an address: each address has its own, so that nobody has to hand them out. 48 bits, far from the small numbers of groups
/// of one; FNV-1a, which is the same everywhere and always.
pub(crate) fn id_of(address: &str) -> MemberId {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = address.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    MemberId((hash >> 16) | 1 << 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_their_addresses() {
        assert_eq!(id_of("a:7400"), id_of("a:7400"));
        assert_ne!(id_of("a:7400"), id_of("b:7400"));
        assert!(id_of("a:7400").0 > 1 << 46);
    }

    #[test]
    fn a_master_outside_of_its_list_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path());
        settings.masters = vec!["a:1".to_owned(), "b:1".to_owned()];
        let place = Place::find(&settings, "b:1", dir.path()).unwrap();
        assert_eq!((place.own.id, place.all.len()), (id_of("b:1"), 2));
        let refused = Place::find(&settings, "c:1", dir.path()).unwrap_err().to_string();
        assert!(refused.contains("set master.advertise"), "{refused}");
        settings.masters.truncate(1);
        assert_eq!(Place::find(&settings, "c:1", dir.path()).unwrap().own.id, MemberId(1));
    }
}
