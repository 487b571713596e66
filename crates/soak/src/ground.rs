//! A directory that clients fight over: what they did to it and were told, and the verdict on that.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use forebay_client::{
    AttributeChanges, Client, DeleteOptions, Entry, ErrorKind, MakeDirectoryOptions, RenameOptions, StatOptions, Xattr,
};
use forebay_testkit::linearize::{Operation, Verdict, check, shortest_violation};
use futures::TryStreamExt;
use parking_lot::Mutex;

use crate::model::{Directory, History, Input, NAMES, Names, Output};

const STEPS_MAX: u64 = 20_000_000;
/// The attribute that clients set, to a number.
pub const MARK: &str = "mark";

/// What the clients did in this round, and the directory as it was before.
#[derive(Debug)]
pub struct Ground {
    path: String,
    before: Names,
    history: Mutex<History>,
}

/// What came of one thing that a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was answered so.
    Answered(Output),
    /// Nobody knows whether it has happened, or will.
    Unknown(String),
}

/// A judged round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// All that was asked for, without looks that were not answered.
    pub operations: usize,
    /// Changes among them without a known end.
    pub unknown: usize,
}

impl Judged {
    /// One more.
    pub fn add(&mut self, other: Judged) {
        self.operations += other.operations;
        self.unknown += other.unknown;
    }
}

impl Ground {
    /// An empty directory, which must be there.
    pub fn new(path: impl Into<String>) -> Ground {
        Ground { path: path.into(), before: Names::new(), history: Mutex::default() }
    }

    /// The path of a name.
    pub fn name(&self, name: u64) -> String {
        format!("{}/{name}", self.path)
    }

    async fn ask(&self, client: &Client, input: Input) -> forebay_client::Result<Output> {
        match input {
            Input::Make(name) => {
                let made = client.make_directory(self.name(name).as_str(), MakeDirectoryOptions::default()).await;
                made.map(|_| Output::Done)
            }
            Input::Delete(name) => {
                let deleted = client.delete(self.name(name).as_str(), DeleteOptions::default()).await;
                deleted.map(|()| Output::Done)
            }
            Input::Rename(from, to) => {
                let (from, to) = (self.name(from), self.name(to));
                client.rename(from.as_str(), to.as_str(), RenameOptions::default()).await.map(|()| Output::Done)
            }
            Input::Mark(name, mark) => {
                let xattr = Xattr { name: MARK.into(), value: mark.to_string().into() };
                let changes = AttributeChanges { set_xattrs: vec![xattr], ..AttributeChanges::default() };
                client.set_attributes(self.name(name).as_str(), changes).await.map(|_| Output::Done)
            }
            Input::Stat(name) => {
                let options = StatOptions { with_xattrs: true, ..StatOptions::default() };
                client.stat_with(self.name(name).as_str(), options).await.map(|entry| Output::Marked(mark_of(&entry)))
            }
            Input::List => {
                let entries: Vec<Entry> = client.list(self.path.as_str())?.try_collect().await?;
                Ok(Output::Listed(entries.iter().map(number_of).collect()))
            }
        }
    }

    fn call(&self, clock: &AtomicU64, input: Input) -> usize {
        let mut history = self.history.lock();
        history.push(Operation { input, called: clock.fetch_add(1, Ordering::SeqCst), returned: None });
        history.len() - 1
    }

    fn answer(&self, clock: &AtomicU64, call: usize, output: Output) {
        self.history.lock()[call].returned = Some((clock.fetch_add(1, Ordering::SeqCst), output));
    }

    /// Remembers a look, made in any way: what it was answered, if it was.
    pub async fn witness(&self, clock: &AtomicU64, input: Input, look: impl Future<Output = Option<Output>>) {
        let call = self.call(clock, input);
        if let Some(output) = look.await {
            self.answer(clock, call, output);
        }
    }

    /// Does one thing and remembers it. One that is dropped half-way stays without an end. An error is an answer that no client should get.
    pub async fn step(&self, client: &Client, clock: &AtomicU64, input: Input) -> Result<Step> {
        let call = self.call(clock, input);
        let output = match self.ask(client, input).await {
            Ok(output) => output,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::AlreadyExists => Output::Refused(error.kind()),
                ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => return Ok(Step::Unknown(error.to_string())),
                _ => bail!("{input:?} in {}: {error}", self.path),
            },
        };
        self.answer(clock, call, output.clone());
        Ok(Step::Answered(output))
    }

    /// Looks at all of it when nobody is at work, and judges the round. Nothing of the round may take effect later: whoever was not answered has gone
    /// with its server, or has made a last change since ([`Ground::end`]).
    pub async fn judge(&mut self, client: &Client, clock: &AtomicU64) -> Result<Judged> {
        self.look(client, clock, Input::List).await?;
        let mut found = Names::new();
        for name in 0..NAMES {
            if let Output::Marked(mark) = self.look(client, clock, Input::Stat(name)).await? {
                found.insert(name, mark);
            }
        }
        let judged = self.verdict()?;
        self.before = found;
        Ok(judged)
    }

    /// On what is in the history, which is empty then.
    fn verdict(&mut self) -> Result<Judged, NoOrder> {
        let mut history = std::mem::take(self.history.get_mut());
        // A look without an answer says nothing.
        history.retain(|of| of.returned.is_some() || of.input.changes());
        let unknown = history.iter().filter(|of| of.returned.is_none()).count();
        let judged = Judged { operations: history.len(), unknown };
        let model = Directory { before: self.before.clone() };
        match check(&model, &history, STEPS_MAX) {
            Verdict::Linearizable => Ok(judged),
            verdict => Err(NoOrder { path: self.path.clone(), model, history, verdict }),
        }
    }

    /// A client's last change of a round, once all is well. With it the masters forget what it had asked for before: what comes late, however
    /// late, is refused, as its first request or a repetition cannot be told any more.
    pub async fn end(&self, client: &Client) -> forebay_client::Result<()> {
        let xattr = Xattr { name: MARK.into(), value: "end".into() };
        let changes = AttributeChanges { set_xattrs: vec![xattr], ..AttributeChanges::default() };
        client.set_attributes(self.path.as_str(), changes).await.map(drop)
    }

    async fn look(&self, client: &Client, clock: &AtomicU64, input: Input) -> Result<Output> {
        match self.step(client, clock, input).await? {
            Step::Answered(output) => Ok(output),
            Step::Unknown(why) => bail!("{input:?} in {} when nothing is broken: {why}", self.path),
        }
    }
}

fn mark_of(entry: &Entry) -> u64 {
    let found = entry.xattrs.iter().find(|xattr| xattr.name == MARK.as_bytes());
    found.map_or(0, |xattr| String::from_utf8_lossy(&xattr.value).parse().expect("marks are numbers"))
}

fn number_of(entry: &Entry) -> u64 {
    let name = entry.name().expect("an entry of a directory has a name").to_string();
    name.parse().expect("names are numbers")
}

/// What clients were told has no order that explains it, or none was found within the steps allowed.
#[derive(Debug)]
pub struct NoOrder {
    path: String,
    model: Directory,
    history: History,
    verdict: Verdict,
}

impl NoOrder {
    /// All of it, in lines: first the shortest beginning that has no order, when there is one.
    pub fn in_full(&self) -> String {
        let mut text = format!("{self}\nbefore, name and mark: {:?}\n", self.model.before);
        if let Some((shortest, verdict)) = shortest_violation(&self.model, &self.history, STEPS_MAX) {
            text += &format!("\nthe shortest beginning without an order: {verdict:?}\n{}\n", lines(&shortest));
        }
        text + &format!("\nthe whole history:\n{}\n", lines(&self.history))
    }
}

impl fmt::Display for NoOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, operations) = (&self.path, self.history.len());
        match &self.verdict {
            Verdict::TooLong => write!(f, "no verdict on {operations} operations in {path} within {STEPS_MAX} steps"),
            _ => write!(
                f,
                "{operations} operations in {path} are not linearizable: no order explains what clients were told"
            ),
        }
    }
}

impl std::error::Error for NoOrder {}

fn lines(history: &History) -> String {
    let lines = history.iter().enumerate().map(|(number, of)| {
        let end = of.returned.as_ref().map_or("nobody knows".to_owned(), |(time, output)| format!("{time} {output:?}"));
        format!("{number}: {} {:?} -> {end}", of.called, of.input)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails when a client was not answered that could wait.
pub fn answered(step: Step) -> Result<Output> {
    match step {
        Step::Answered(output) => Ok(output),
        Step::Unknown(why) => bail!("a client that waits was told: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happened in a directory in which 0 is marked with 7: one after the other; what has no answer is under way to the end.
    fn verdict(steps: &[(Input, Option<Output>)]) -> Result<Judged, NoOrder> {
        let clock = AtomicU64::new(0);
        let mut ground = Ground { before: Names::from([(0, 7)]), ..Ground::new("/ground") };
        for (input, output) in steps {
            let call = ground.call(&clock, *input);
            if let Some(output) = output {
                ground.answer(&clock, call, output.clone());
            }
        }
        ground.verdict()
    }

    #[test]
    fn what_can_be_is_counted() {
        let made = (Input::Make(1), Some(Output::Done));
        let found = (Input::Stat(0), Some(Output::Marked(7)));
        let judged = verdict(&[made, (Input::Delete(1), None), (Input::List, None), found]).unwrap();
        assert_eq!(judged, Judged { operations: 3, unknown: 1 });
    }

    #[test]
    fn what_cannot_be_is_told_with_the_history() {
        let marked = (Input::Mark(0, 9), Some(Output::Done));
        let old = (Input::Stat(0), Some(Output::Marked(7)));
        let other = (Input::Make(1), Some(Output::Done));
        let no_order = verdict(&[other, marked, old]).unwrap_err();
        assert!(matches!(no_order.verdict, Verdict::Violation(_)), "{no_order:?}");
        assert!(no_order.to_string().contains("3 operations in /ground are not linearizable"), "{no_order}");
        let told = no_order.in_full();
        assert!(told.contains("the shortest beginning without an order") && told.contains("Mark(0, 9)"), "{told}");
    }
}
