//! How metrics are shown: histograms in buckets, so that they add up over servers, and a line of help for each name.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// The page that users read says what each metric is; `/metrics` says the same.
const PAGE: &str = include_str!("../../../../../docs/metrics.md");

/// Of histograms of times: from a call that is answered from memory to the deadline of a client.
const SECONDS_BUCKETS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Of all others, which count things: batches have 2,048 entries at most.
const COUNT_BUCKETS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

/// Starts collecting metrics in this process.
pub(super) fn recorder() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets(&COUNT_BUCKETS)?
        .install_recorder()?;
    for row in rows() {
        match row.kind {
            "counter" => metrics::describe_counter!(row.name, row.meaning),
            "gauge" => metrics::describe_gauge!(row.name, row.meaning),
            _ => metrics::describe_histogram!(row.name, row.meaning),
        }
    }
    Ok(handle)
}

/// One metric of the page.
struct Row {
    name: &'static str,
    kind: &'static str,
    meaning: &'static str,
}

fn rows() -> impl Iterator<Item = Row> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let (name, kind, _unit) = (cells.next()?.strip_suffix('`')?, cells.next()?, cells.next()?);
        Some(Row { name, kind, meaning: cells.next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn every_row_of_the_page_has_a_kind_and_a_meaning() {
        let rows: Vec<_> = rows().collect();
        assert!(rows.len() > 60, "{} rows", rows.len());
        for row in rows {
            assert!(["counter", "gauge", "histogram"].contains(&row.kind), "{} is a {:?}", row.name, row.kind);
            assert!(row.meaning.len() > 5 && row.name.starts_with("forebay_"), "{}: {:?}", row.name, row.meaning);
        }
    }
}
