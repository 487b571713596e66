//! What a look at each of the masters shows, and what it means for who wants to be served.

use super::MasterGroup;
use crate::error::Error;
use forebay_base::ErrorKind;

/// What the masters say, each asked by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MastersSeen {
    /// Those of the list, and then those that the group has besides.
    pub masters: Vec<MasterSeen>,
    /// How many the list has.
    pub(crate) listed: usize,
    /// The group, as the one sees it that leads for certain, else the one that has the newest of it; none when no master that answers belongs to one.
    pub group: Option<MasterGroup>,
}

/// What one master says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterSeen {
    /// `host:port`.
    pub address: String,
    /// Its answer.
    pub answer: MasterAnswer,
}

/// The answer of a master, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterAnswer {
    /// It answers: why it does not serve, or that it does, which is no word.
    Says(String),
    /// It does not answer, with the reason.
    Silent(String),
}

impl MasterSeen {
    /// Whether it answers.
    pub fn answers(&self) -> bool {
        matches!(self.answer, MasterAnswer::Says(_))
    }

    fn in_words(&self) -> String {
        match &self.answer {
            MasterAnswer::Says(_) => format!("{} answers", self.address),
            MasterAnswer::Silent(why) => format!("{} does not ({why})", self.address),
        }
    }

    fn with_its_words(&self) -> String {
        match &self.answer {
            MasterAnswer::Says(words) if !words.is_empty() => format!("{} answers ({words})", self.address),
            _ => self.in_words(),
        }
    }
}

/// What mends a group that has lost too many.
const MAJORITY_HINT: &str = "start those that do not answer again, with their data; what can be done about those that are lost (rebuild, restore) \
     is in docs/operations/masters.md, \"When the majority is lost\"";

impl MastersSeen {
    /// Who answers and who does not.
    pub fn in_words(&self) -> String {
        joined(self.masters.iter().map(MasterSeen::in_words))
    }

    /// Whether that master answers; none for one that was not asked.
    pub fn answers(&self, address: &str) -> Option<bool> {
        self.of(address).map(MasterSeen::answers)
    }

    /// What that master says.
    pub fn of(&self, address: &str) -> Option<&MasterSeen> {
        self.masters.iter().find(|master| master.address == address)
    }

    /// Why nobody of the list serves, with what mends it; none when one leads for certain and is in the list.
    pub fn trouble(&self) -> Option<Error> {
        let (message, hint) = match &self.group {
            Some(group) if group.doubt.is_empty() => self.elsewhere(group)?,
            Some(group) => self.without_leader(group),
            None if self.masters.iter().any(MasterSeen::answers) => self.without_group(),
            None => self.without_answer(),
        };
        Some(Error::new(ErrorKind::Unavailable, message).with_hint(hint))
    }

    /// A group serves, and none of the list belongs to it.
    fn elsewhere(&self, group: &MasterGroup) -> Option<(String, String)> {
        let listed = &self.masters[..self.listed.min(self.masters.len())];
        // The group may know one by another name than the list.
        let serves = |listed: &MasterSeen| listed.answer == MasterAnswer::Says(String::new());
        if listed
            .iter()
            .any(|listed| serves(listed) || group.masters.iter().any(|member| member.address == listed.address))
        {
            return None;
        }
        let list = joined(listed.iter().map(|master| master.address.clone()));
        let members = joined(group.masters.iter().map(|member| member.address.clone()));
        let message = format!("{list} cannot serve: the masters are {members}");
        Some((message, format!("name these in the setting masters: --masters {}", members.replace(' ', ""))))
    }

    fn without_leader(&self, group: &MasterGroup) -> (String, String) {
        let voters = group.masters.iter().filter(|member| member.votes);
        let voters: Vec<&MasterSeen> = voters.filter_map(|member| self.of(&member.address)).collect();
        let answer = voters.iter().filter(|master| master.answers()).count();
        if answer * 2 <= voters.len() {
            let each = joined(voters.iter().map(|master| master.in_words()));
            return (format!("no majority of the masters answers: {each}"), MAJORITY_HINT.to_owned());
        }
        let each = joined(voters.iter().map(|master| master.with_its_words()));
        let hint = "see the logs of those that answer: they cannot reach each other, or choose a leader at this moment"
            .to_owned();
        (format!("a majority of the masters answers, and none of them leads: {each}"), hint)
    }

    fn without_group(&self) -> (String, String) {
        let each = joined(self.masters.iter().map(MasterSeen::with_its_words));
        let hint = "new masters form their group when all of the list run: start those that do not answer, or correct the setting masters of all".to_owned();
        (format!("the masters have formed no group yet: {each}"), hint)
    }

    fn without_answer(&self) -> (String, String) {
        let list = joined(self.masters.iter().map(|master| master.address.clone()));
        (
            format!("no master answers: {}", self.in_words()),
            format!("check that a master (`forebay server`) runs at {list}"),
        )
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MasterMember;

    fn seen(listed: usize, answers: &[(&str, Result<&str, &str>)]) -> MastersSeen {
        let answer = |answer: &Result<&str, &str>| match answer {
            Ok(says) => MasterAnswer::Says((*says).to_owned()),
            Err(why) => MasterAnswer::Silent((*why).to_owned()),
        };
        let master = |(address, said): &(&str, Result<&str, &str>)| MasterSeen {
            address: (*address).to_owned(),
            answer: answer(said),
        };
        MastersSeen { masters: answers.iter().map(master).collect(), listed, group: None }
    }

    fn in_group(members: &[&str], doubt: &str, seen: MastersSeen) -> MastersSeen {
        let member = |address: &&str| MasterMember {
            id: 1,
            address: (*address).to_owned(),
            leader: false,
            votes: true,
            matched_index: None,
            silent_ms: None,
            trouble: String::new(),
            release: String::new(),
            versions: None,
        };
        let group = MasterGroup {
            masters: members.iter().map(member).collect(),
            term: 1,
            last_index: 1,
            flushed_index: 0,
            seen_by: String::new(),
            doubt: doubt.to_owned(),
            cluster_version: 1,
        };
        MastersSeen { group: Some(group), ..seen }
    }

    fn check(seen: &MastersSeen, message: &str, hint: &str) {
        let error = seen.trouble().unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, message));
        assert!(error.hint().contains(hint), "{}", error.hint());
    }

    #[test]
    fn what_keeps_the_masters_from_serving_is_said_as_a_fact() {
        let (a, b, c) = ("a:1", "b:1", "c:1");
        let refused = Err("connection refused");
        check(
            &seen(3, &[(a, Ok("this master (a:1) waits for b:1")), (b, refused), (c, Ok(""))]),
            "the masters have formed no group yet: a:1 answers (this master (a:1) waits for b:1), b:1 does not (connection refused), c:1 answers",
            "when all of the list run",
        );
        check(
            &in_group(&[a, b, c], "it is alone", seen(1, &[(a, Ok("it is alone")), (b, refused), (c, Err("silent"))])),
            "no majority of the masters answers: a:1 answers, b:1 does not (connection refused), c:1 does not (silent)",
            "docs/operations/masters.md",
        );
        check(
            &in_group(&[a, b], "it is cut off", seen(2, &[(a, Ok("it is cut off")), (b, Ok("so is it"))])),
            "a majority of the masters answers, and none of them leads: a:1 answers (it is cut off), b:1 answers (so is it)",
            "see the logs",
        );
        check(
            &in_group(&[b, c], "", seen(1, &[(a, Ok("it was removed")), (b, Ok("")), (c, Ok(""))])),
            "a:1 cannot serve: the masters are b:1, c:1",
            "--masters b:1,c:1",
        );
        check(&seen(1, &[(a, refused)]), "no master answers: a:1 does not (connection refused)", "runs at a:1");
        assert!(in_group(&[a], "", seen(1, &[(a, Ok(""))])).trouble().is_none());
    }
}
