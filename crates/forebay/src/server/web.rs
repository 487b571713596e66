//! The web port: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it can serve).

mod exposition;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// At 100,000 samples a second, 4 MB of them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Which parts of the process are not ready yet, and why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    waiting: Arc<Mutex<Vec<(&'static str, String)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A part that says by itself, whenever it is asked, why it cannot serve.
struct Asked {
    part: &'static str,
    trouble: Box<dyn Fn() -> Option<String> + Send>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.part)
    }
}

impl Health {
    /// `part` cannot serve now, for `reason`.
    pub(crate) fn not_ready(&self, part: &'static str, reason: impl Into<String>) {
        let mut waiting = self.waiting.lock().expect("no panic while the lock is held");
        waiting.retain(|(name, _)| *name != part);
        waiting.push((part, reason.into()));
    }

    /// `part` serves.
    pub(crate) fn ready(&self, part: &'static str) {
        self.waiting.lock().expect("no panic while the lock is held").retain(|(name, _)| *name != part);
    }

    /// `part` is asked each time whether it can serve.
    pub(crate) fn ask(&self, part: &'static str, trouble: impl Fn() -> Option<String> + Send + 'static) {
        let asked = Asked { part, trouble: Box::new(trouble) };
        self.asked.lock().expect("no panic while the lock is held").push(asked);
    }

    fn reasons(&self) -> Vec<String> {
        let waiting = self.waiting.lock().expect("no panic while the lock is held");
        let waiting: Vec<String> = waiting.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
        let asked = self.asked.lock().expect("no panic while the lock is held");
        let troubles = asked.iter().filter_map(|asked| Some(format!("{}: {}", asked.part, (asked.trouble)()?)));
        waiting.into_iter().chain(troubles).collect()
    }
}

/// The open web port.
pub(crate) struct Web {
    /// Where it listens; none when it is off.
    pub(crate) address: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: PrometheusHandle,
}

/// Opens the port (`off`: none) and starts collecting metrics.
pub(crate) async fn start(listen: &str, health: Health) -> anyhow::Result<Web> {
    let metrics = exposition::recorder()?;
    let upkeep = tokio::spawn(upkeep(metrics.clone()));
    if listen == "off" {
        return Ok(Web { address: None, tasks: vec![upkeep] });
    }
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {listen}: {error}; set web.listen"))?;
    let address = listener.local_addr()?;
    let router = router(Shared { health, metrics });
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the web port has stopped");
        }
    });
    Ok(Web { address: Some(address), tasks: vec![upkeep, serving] })
}

/// Sums up the samples of histograms. Only this and a scrape do: without it they would all be kept until somebody asks.
async fn upkeep(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(|State(shared): State<Shared>| async move { shared.metrics.render() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shared)
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    let reasons = shared.health.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}
