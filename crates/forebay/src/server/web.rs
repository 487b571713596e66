//! The web port: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it can serve).

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
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

    fn reasons(&self) -> Vec<String> {
        let waiting = self.waiting.lock().expect("no panic while the lock is held");
        waiting.iter().map(|(part, reason)| format!("{part}: {reason}")).collect()
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
    let metrics = PrometheusBuilder::new().install_recorder()?;
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
