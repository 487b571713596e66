//! The network between members and clients: messages are lost, late, doubled and overtake each other; streams stall and break; links are cut, in one
//! direction or both. What is under way goes on when its sender dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_consensus::simulation::said;
use forebay_consensus::{Member, Transport, TransportError};
use forebay_vtime::{Chance, Host, sleep};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::checks::Checks;
use crate::member::Serving;
use crate::trace::Trace;

/// How good the network is.
#[derive(Clone, Debug)]
pub(crate) struct Quality {
    /// Each message takes from ...
    pub(crate) delay_us_min: u64,
    /// ... to so long, ...
    pub(crate) delay_us_max: u64,
    /// ... but of a thousand so many take up to ten times longer, ...
    pub(crate) late_permille: u64,
    /// ... so many are lost, or break their stream, ...
    pub(crate) lost_permille: u64,
    /// ... and so many come twice.
    pub(crate) doubled_permille: u64,
}

impl Quality {
    pub(crate) fn good() -> Quality {
        Quality { delay_us_min: 100, delay_us_max: 1_000, late_permille: 0, lost_permille: 0, doubled_permille: 0 }
    }
}

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    /// What is under way runs here.
    wires: Host,
    state: Mutex<State>,
    trace: Trace,
    checks: Checks,
}

struct State {
    quality: Quality,
    /// Nothing goes from the first to the second.
    cut: BTreeSet<(u64, u64)>,
    there: BTreeMap<u64, Arc<Serving>>,
    chance: Chance,
}

/// What a handler of a message does with it on the host that it has come to.
type Handler<R> = Arc<dyn Fn(Arc<Serving>) -> BoxFuture<'static, R> + Send + Sync>;

/// One way of a stream has ended.
enum Broken {
    /// On its way.
    Lost,
    /// The other side wants nothing more.
    Closed,
}

impl Net {
    pub(crate) fn new(trace: &Trace, checks: &Checks, chance: Chance) -> Net {
        let state =
            Mutex::new(State { quality: Quality::good(), cut: BTreeSet::new(), there: BTreeMap::new(), chance });
        Net(Arc::new(Shared { wires: Host::new("wires"), state, trace: trace.clone(), checks: checks.clone() }))
    }

    /// Who answers under this number from now on.
    pub(crate) fn attach(&self, id: u64, serving: Arc<Serving>) {
        self.0.state.lock().there.insert(id, serving);
    }

    /// Nobody does any more.
    pub(crate) fn detach(&self, id: u64) {
        let gone = self.0.state.lock().there.remove(&id);
        drop(gone);
    }

    pub(crate) fn set_quality(&self, quality: Quality) {
        self.0.state.lock().quality = quality;
    }

    /// Nothing goes from one to the other any more.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.0.state.lock().cut.insert((from, to));
    }

    /// Everything goes everywhere again.
    pub(crate) fn mend(&self) {
        self.0.state.lock().cut.clear();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.0.state.lock().cut.contains(&(from, to))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Chance, &Quality) -> T) -> T {
        let mut state = self.0.state.lock();
        let State { chance, quality, .. } = &mut *state;
        draw(chance, quality)
    }

    fn delay(&self) -> Duration {
        self.draw(|chance, quality| {
            let us = chance.between(quality.delay_us_min, quality.delay_us_max);
            let factor = if chance.permille(quality.late_permille) { chance.between(1, 10) } else { 1 };
            Duration::from_micros(us * factor)
        })
    }

    /// Takes a single message along; says whether it gets there.
    async fn travel(&self, from: u64, to: u64) -> bool {
        sleep(self.delay()).await;
        !self.is_cut(from, to) && !self.draw(|chance, quality| chance.permille(quality.lost_permille))
    }

    /// Brings a request to whoever answers at `to`, and the answer back. What is lost is waited for for ever.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        from: u64,
        to: u64,
        handler: Handler<R>,
    ) -> Result<R, TransportError> {
        let (home, answer) = oneshot::channel();
        let doubled = self.draw(|chance, quality| chance.permille(quality.doubled_permille));
        if doubled {
            let (nowhere, _) = oneshot::channel();
            self.0.wires.spawn(self.clone().deliver(from, to, handler.clone(), nowhere));
        }
        self.0.wires.spawn(self.clone().deliver(from, to, handler, home));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    async fn deliver<R: Send + 'static>(
        self,
        from: u64,
        to: u64,
        handler: Handler<R>,
        home: oneshot::Sender<Result<R, TransportError>>,
    ) {
        if !self.travel(from, to).await {
            return;
        }
        let there = self.0.state.lock().there.get(&to).cloned();
        let answer = match there {
            Some(there) => there.host.clone().spawn(async move { handler(there).await }).await.map_err(|_| reset()),
            None => Err(refused()),
        };
        if self.travel(to, from).await {
            // Who has asked may be gone.
            let _ = home.send(answer);
        }
    }

    /// Takes the messages of one direction of a stream along, in order, until it breaks.
    async fn carry(&self, from: u64, to: u64, mut out: mpsc::Receiver<Bytes>, into: &mpsc::Sender<Bytes>) -> Broken {
        loop {
            let message = tokio::select! {
                biased;
                () = into.closed() => return Broken::Closed,
                message = out.recv() => message,
            };
            let Some(message) = message else {
                return Broken::Lost;
            };
            sleep(self.delay()).await;
            if self.draw(|chance, quality| chance.permille(quality.lost_permille)) {
                return Broken::Lost;
            }
            // Sent again and again, as TCP does, until somebody gives up.
            while self.is_cut(from, to) {
                if self.draw(|chance, _| chance.permille(50)) {
                    return Broken::Lost;
                }
                tokio::select! {
                    biased;
                    () = into.closed() => return Broken::Closed,
                    () = sleep(Duration::from_millis(20)) => {}
                }
            }
            if into.send(message).await.is_err() {
                return Broken::Closed;
            }
        }
    }

    /// Notes a message, and who leads by what it says.
    fn hear(&self, from: u64, to: u64, message: &Bytes) {
        let Some(said) = said(message) else {
            return self.0.trace.note(format_args!("{from}->{to} something that nobody can read"));
        };
        if let Some((term, leader)) = said.leads {
            self.0.checks.leads(term, leader);
        }
        self.0.trace.note(format_args!("{from}->{to} {} {}", said.what, said.entries));
    }
}

fn refused() -> TransportError {
    TransportError::Unreachable("connection refused".to_owned())
}

fn reset() -> TransportError {
    TransportError::Broken("connection reset by peer".to_owned())
}

/// One life's end of the network.
pub(crate) struct Link {
    pub(crate) net: Net,
    pub(crate) from: u64,
    pub(crate) host: Host,
}

/// Where a member is reached.
pub(crate) fn address(id: u64) -> String {
    format!("member {id}")
}

/// Who is reached there.
pub(crate) fn at_address(member: &Member) -> u64 {
    member.address.trim_start_matches("member ").parse().expect("addresses are made by `address`")
}

impl Transport for Link {
    fn call(&self, to: &Member, request: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (net, from, to) = (self.net.clone(), self.from, at_address(to));
        net.hear(from, to, &request);
        let handler: Handler<Bytes> = Arc::new(move |there| {
            let request = request.clone();
            async move { there.consensus.handle(request).await }.boxed()
        });
        async move { net.ask(from, to, handler).await }.boxed()
    }

    fn stream(
        &self,
        to: &Member,
        mut requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, TransportError>>, TransportError>> {
        let (net, host, from, to) = (self.net.clone(), self.host.clone(), self.from, at_address(to));
        async move {
            if !net.travel(from, to).await {
                std::future::pending::<()>().await;
            }
            let there = net.0.state.lock().there.get(&to).cloned().ok_or_else(refused)?;
            let (leave, left) = mpsc::channel::<Bytes>(4);
            let (arrive, arrived) = mpsc::channel::<Bytes>(1);
            let (answer, answered) = mpsc::channel::<Bytes>(4);
            let (home, at_home) = mpsc::channel::<Bytes>(1);
            let heard = net.clone();
            host.spawn(async move {
                loop {
                    let request = tokio::select! {
                        biased;
                        () = leave.closed() => return,
                        request = requests.next() => request,
                    };
                    let Some(request) = request else { return };
                    heard.hear(from, to, &request);
                    if leave.send(request).await.is_err() {
                        return;
                    }
                }
            });
            let wires = net.0.wires.clone();
            let (forth, back) = (net.clone(), net.clone());
            wires.spawn(async move {
                forth.carry(from, to, left, &arrive).await;
            });
            wires.spawn(async move {
                back.carry(to, from, answered, &home).await;
            });
            there.host.clone().spawn(async move {
                let mut answers = there.consensus.handle_stream(received(arrived).boxed());
                while let Some(reply) = answers.next().await {
                    if answer.send(reply).await.is_err() {
                        return;
                    }
                }
            });
            Ok(received(at_home).map(Ok).boxed())
        }
        .boxed()
    }
}

fn received(from: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Bytes> {
    futures::stream::unfold(from, |mut from| async { Some((from.recv().await?, from)) })
}
