//! What the attempts of one call came to: which master answered what, and which of them did not.
//!
//! Of several masters, one that answers says more than those that refuse connections, and may name as the leader one of these. Whoever reads the message is told
//! who said it, and that the one that it names is not there.

use super::{cause_of, is_connect_error};
use crate::error::Error;
use forebay_base::{ErrorKind, HumanDuration};
use forebay_proto::error::WireError;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Status;

/// The attempts so far, all of which have failed. As many addresses as there are masters.
pub(super) struct Tried<'a> {
    /// Of the list.
    addresses: &'a str,
    are_several: bool,
    /// The last answer of a master, and whose.
    answer: Option<(String, Status)>,
    /// Who did not answer when asked last, and why.
    unanswered: BTreeMap<String, String>,
    last: Option<(String, Status)>,
    may_have_arrived: bool,
}

impl<'a> Tried<'a> {
    pub(super) fn new(addresses: &'a str, listed: usize) -> Tried<'a> {
        Tried {
            addresses,
            are_several: listed > 1,
            answer: None,
            unanswered: BTreeMap::new(),
            last: None,
            may_have_arrived: false,
        }
    }

    /// The master there has failed to serve the call.
    pub(super) fn failed(&mut self, address: &str, status: &Status) {
        self.may_have_arrived |= !is_connect_error(status);
        match status.details().is_empty() {
            true => drop(self.unanswered.insert(address.to_owned(), cause_of(status))),
            false => {
                self.unanswered.remove(address);
                self.answer = Some((address.to_owned(), status.clone()));
            }
        }
        // Also one that the list does not name.
        self.are_several |= self.last.as_ref().is_some_and(|(last, _)| last != address);
        self.last = Some((address.to_owned(), status.clone()));
    }

    /// What a master said tells more than that another one, or the last attempt, got no answer.
    fn best(&self) -> Option<&(String, Status)> {
        self.answer.as_ref().or(self.last.as_ref())
    }

    /// Why there is no answer yet, for people.
    pub(super) fn cause(&self) -> String {
        self.best().map_or(String::new(), |(address, status)| self.said(address, &cause_of(status)))
    }

    fn said(&self, address: &str, what: &str) -> String {
        if self.are_several { format!("{address}: {what}") } else { what.to_owned() }
    }

    /// The error of a call whose deadline has passed.
    pub(super) fn gave_up(&self, deadline: Duration) -> Error {
        let (kind, hint) = match self.may_have_arrived {
            true => (ErrorKind::DeadlineExceeded, "a store that is slow or away is told in the logs of the masters; look whether it took effect before repeating a change".to_owned()),
            false => {
                (ErrorKind::Unavailable, format!("check that a master (`forebay server`) runs at {}", self.addresses))
            }
        };
        let (within, why) = (HumanDuration(deadline), self.cause());
        let message = match &self.answer {
            None => format!("no answer from the masters ({}) within {within}: {why}", self.addresses),
            // They did answer, each time that it cannot be done now.
            Some(_) => format!("not within {within}: {why}"),
        };
        let hint = self.hint().unwrap_or(hint);
        let error = Error::new(kind, message).with_hint(hint);
        match self.best() {
            Some((_, status)) => error.with_source(status.clone()),
            None => error,
        }
    }

    /// What mends it, by the master that answered.
    fn hint(&self) -> Option<String> {
        let (address, status) = self.answer.as_ref()?;
        let WireError { hint, leader, .. } = WireError::from(status);
        match self.unanswered.get(&leader) {
            Some(_) if 2 * self.unanswered.len() >= self.addresses.split(',').count() => {
                Some(format!("{address} answers alone; most of the masters do not: start them again, with their data"))
            }
            Some(why) => Some(format!(
                "{address} answers and takes {leader} for the leader, which does not answer ({why}): start that one, or wait until the others have chosen another"
            )),
            None => (!hint.is_empty()).then_some(hint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, leader: &str) -> Status {
        WireError::new(ErrorKind::Unavailable, text).with_hint("ask it").with_leader(leader).into()
    }

    fn refused() -> Status {
        Status::unavailable("connection refused")
    }

    /// The cause, and the error when the deadline has passed.
    fn check(listed: usize, attempts: &[(&str, Status)], cause: &str, hint: &str) -> Error {
        let mut tried = Tried::new("a:1, b:1, c:1", listed);
        attempts.iter().for_each(|(address, status)| tried.failed(address, status));
        assert_eq!(tried.cause(), cause);
        let error = tried.gave_up(Duration::from_secs(1));
        assert!(error.message().ends_with(cause), "{error:?}");
        assert_eq!(error.hint(), hint);
        error
    }

    #[test]
    fn the_one_that_answered_is_named_and_not_a_leader_that_is_gone() {
        let named = "b:1 answers and takes a:1 for the leader, which does not answer (connection refused): start that one, or wait until the others have chosen another";
        let told = [("a:1", refused()), ("b:1", answer("not the leader", "a:1")), ("a:1", refused())];
        let error = check(2, &told, "b:1: not the leader", named);
        assert!(error.message().starts_with("not within 1s"), "{error}");
        check(2, &told[..2], "b:1: not the leader", named);
        let alone = [("a:1", refused()), ("b:1", answer("not the leader", "a:1")), ("c:1", refused())];
        let lost = "b:1 answers alone; most of the masters do not: start them again, with their data";
        check(3, &alone, "b:1: not the leader", lost);
        let back = [("a:1", refused()), ("b:1", answer("not the leader", "a:1")), ("a:1", answer("starting", ""))];
        check(2, &back, "a:1: starting", "ask it");
        check(2, &[("b:1", answer("no leader", ""))], "b:1: no leader", "ask it");
    }

    #[test]
    fn a_sole_master_needs_no_name() {
        check(1, &[("a:1", answer("starting", ""))], "starting", "ask it");
        let error = check(
            1,
            &[("a:1", refused())],
            "connection refused",
            "a store that is slow or away is told in the logs of the masters; look whether it took effect before repeating a change",
        );
        assert!(error.message().starts_with("no answer from the masters (a:1, b:1, c:1) within 1s"), "{error}");
    }
}
