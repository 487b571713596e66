//! What goes wrong, and for which requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Method, Uri};
use tokio::sync::watch;
use tokio::time::timeout;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It reaches the store later.
    Delay(Duration),
    /// The connection is reset; the store sees nothing.
    Reset,
    /// The store carries it out; the connection is reset instead of an answer.
    LoseAnswer,
    /// No answer ever; the store sees nothing.
    BlackHole,
    /// The answer's body ends after so many bytes, by a reset: the client can tell.
    CutBody(u64),
    /// The answer's body stops after so many bytes, and the connection stays open.
    StallBody(u64),
    /// The answer's body comes byte by byte after so many bytes, twenty a second.
    TrickleBody(u64),
    /// The answer's body is shorter than the object and claims to be whole: a lying store.
    TruncateBody(u64),
    /// An error answer with an S3 body (`503`, `"SlowDown"`); the store sees nothing.
    Status(u16, &'static str),
    /// `200 OK` with an error in the body, as S3 answers a failed CompleteMultipartUpload or copy; the store sees nothing.
    ErrorInOk(&'static str),
    /// The answer carries another tag than the object.
    WrongEtag(&'static str),
    /// It waits until the test lets it go; made by [`super::Proxy::hold`].
    Hold(Gate),
}

impl Fault {
    /// What S3 says when it is asked too much.
    pub fn slow_down() -> Self {
        Self::Status(503, "SlowDown")
    }
}

/// Which requests a fault strikes. All conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    method: Option<Method>,
    path_contains: Option<String>,
    query_has: Vec<&'static str>,
    skipped: u64,
    struck_max: Option<u64>,
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with this method.
    pub fn method(method: Method) -> Self {
        Self { method: Some(method), ..Self::default() }
    }

    /// GET of an object or a listing.
    pub fn get() -> Self {
        Self::method(Method::GET)
    }

    /// PUT of an object or a part.
    pub fn put() -> Self {
        Self::method(Method::PUT)
    }

    /// One page of a listing.
    pub fn list() -> Self {
        Self::get().query_has("list-type")
    }

    /// The beginning of a multipart upload.
    pub fn begin_upload() -> Self {
        Self::method(Method::POST).query_has("uploads")
    }

    /// One part of a multipart upload.
    pub fn upload_part() -> Self {
        Self::put().query_has("partNumber")
    }

    /// The end of a multipart upload.
    pub fn complete_upload() -> Self {
        Self::method(Method::POST).query_has("uploadId")
    }

    /// … whose path, as the client encoded it, contains this.
    pub fn path_contains(mut self, part: &str) -> Self {
        self.path_contains = Some(part.to_owned());
        self
    }

    /// … whose query has this name.
    pub fn query_has(mut self, name: &'static str) -> Self {
        self.query_has.push(name);
        self
    }

    /// … but not the first `count` of them.
    pub fn after(mut self, count: u64) -> Self {
        self.skipped = count;
        self
    }

    /// … and only `count` of them.
    pub fn times(mut self, count: u64) -> Self {
        self.struck_max = Some(count);
        self
    }

    /// … only the `nth` of them, counted from 1.
    pub fn nth(self, nth: u64) -> Self {
        self.after(nth.saturating_sub(1)).times(1)
    }

    fn matches(&self, method: &Method, uri: &Uri) -> bool {
        let has = |name: &&str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            pairs.into_iter().any(|pair| pair.split('=').next() == Some(*name))
        };
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path_contains.as_ref().is_none_or(|part| uri.path().contains(part.as_str()))
            && self.query_has.iter().all(has)
    }
}

/// Names a rule, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

#[derive(Debug)]
struct Rule {
    id: RuleId,
    when: When,
    fault: Fault,
    matched: u64,
}

/// The rules in the order they were given.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    next_id: u64,
}

impl Rules {
    pub(super) fn add(&mut self, when: When, fault: Fault) -> RuleId {
        let id = RuleId(self.next_id);
        self.next_id += 1;
        self.rules.push(Rule { id, when, fault, matched: 0 });
        id
    }

    pub(super) fn remove(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// How many requests a rule has struck.
    pub(super) fn struck(&self, id: RuleId) -> u64 {
        let rule = self.rules.iter().find(|rule| rule.id == id);
        rule.map_or(0, |rule| {
            let past = rule.matched.saturating_sub(rule.when.skipped);
            past.min(rule.when.struck_max.unwrap_or(u64::MAX))
        })
    }

    /// The fault of the first rule that strikes this request. Rules behind it do not count the request.
    pub(super) fn strike(&mut self, method: &Method, uri: &Uri) -> Option<Fault> {
        for rule in self.rules.iter_mut().filter(|rule| rule.when.matches(method, uri)) {
            rule.matched += 1;
            let past = rule.matched.saturating_sub(rule.when.skipped);
            if past > 0 && rule.when.struck_max.is_none_or(|max| past <= max) {
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GateState {
    Closed,
    /// A request stands before it.
    Reached,
    Open,
}

/// Where a held request waits.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<GateState>>);

impl Gate {
    pub(super) async fn pass(&self) {
        self.0.send_if_modified(|state| {
            let first = *state == GateState::Closed;
            if first {
                *state = GateState::Reached;
            }
            first
        });
        // The gate itself holds the sender, so the channel cannot close under us.
        let _ = self.0.subscribe().wait_for(|state| *state == GateState::Open).await;
    }
}

/// Holds requests back, so that a test can do something while they are under way. Lets them go when dropped.
#[derive(Debug)]
pub struct Hold(Gate);

impl Hold {
    pub(super) fn new() -> (Self, Gate) {
        let gate = Gate(Arc::new(watch::Sender::new(GateState::Closed)));
        (Self(gate.clone()), gate)
    }

    /// Waits until a request is held.
    pub async fn reached(&self, deadline: Duration) -> Result<()> {
        let mut state = self.0.0.subscribe();
        let reached = state.wait_for(|state| *state != GateState::Closed);
        timeout(deadline, reached).await.context("no request came to be held")?.map(drop).context("the gate is gone")
    }

    /// Lets the held requests go, and those that come later.
    pub fn release(&self) {
        self.0.0.send_replace(GateState::Open);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(rules: &mut Rules, method: Method, uri: &'static str) -> bool {
        rules.strike(&method, &Uri::from_static(uri)).is_some()
    }

    #[test]
    fn only_the_nth_match_is_struck() {
        let mut rules = Rules::default();
        let id = rules.add(When::get().path_contains("/a").nth(2), Fault::Reset);
        assert!(!struck(&mut rules, Method::GET, "/b/a"));
        assert!(!struck(&mut rules, Method::PUT, "/b/a"));
        assert!(!struck(&mut rules, Method::GET, "/b/c"));
        assert_eq!(rules.struck(id), 0);
        assert!(struck(&mut rules, Method::GET, "/b/a"));
        assert!(!struck(&mut rules, Method::GET, "/b/a"));
        assert_eq!(rules.struck(id), 1);
    }

    #[test]
    fn operations_are_told_apart_by_their_query() {
        let check = |when: When, method: Method, uri: &'static str, expected: bool| {
            let mut rules = Rules::default();
            rules.add(when, Fault::Reset);
            assert_eq!(struck(&mut rules, method, uri), expected, "{uri}");
        };
        check(When::complete_upload(), Method::POST, "/b/k?uploadId=7", true);
        check(When::complete_upload(), Method::POST, "/b/k?uploads", false);
        check(When::begin_upload(), Method::POST, "/b/k?uploads=", true);
        check(When::upload_part(), Method::PUT, "/b/k?partNumber=1&uploadId=7", true);
        check(When::list(), Method::GET, "/b?list-type=2&prefix=", true);
        check(When::list(), Method::GET, "/b/list-type", false);
    }

    #[test]
    fn a_rule_can_be_taken_back() {
        let mut rules = Rules::default();
        let id = rules.add(When::any(), Fault::Reset);
        rules.remove(id);
        assert!(!struck(&mut rules, Method::GET, "/"));
    }
}
