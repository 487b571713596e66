//! The HTTP client of a store: TLS by rustls, names, timeouts; and what its errors mean.

use super::config::S3Config;
use crate::failure::At;
use crate::open::invalid;
use crate::{UfsError, UfsResult};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Idle connections are closed before AWS's servers do it (20 s), so that requests do not meet a closing one.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// The client.
pub(super) fn client(config: &S3Config) -> UfsResult<reqwest::Client> {
    let trusted = match &config.ca_file {
        Some(path) if is_encrypted(config) => read_certificates(config, path)?,
        _ => Vec::new(),
    };
    build(config, trusted)
}

/// A client that trusts these certificates in PEM besides the system's.
pub(super) fn client_trusting(config: &S3Config, authorities: &[u8]) -> UfsResult<reqwest::Client> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
    build(config, read.map_err(|why| invalid(&config.uri, format!("its certificates cannot be read: {why}"), ""))?)
}

fn is_encrypted(config: &S3Config) -> bool {
    config.endpoint.starts_with("https://")
}

fn build(config: &S3Config, trusted: Vec<CertificateDer<'static>>) -> UfsResult<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config(config, trusted)?)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(config.reads_max)
        .tcp_nodelay(true)
        .dns_resolver(Arc::new(Names))
        .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|why| invalid(&config.uri, describe(&why), "check the options of the store"))
}

fn tls_config(config: &S3Config, trusted: Vec<CertificateDer<'static>>) -> UfsResult<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if is_encrypted(config) {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        for certificate in trusted {
            roots.add(certificate).map_err(|why| bad_ca_file(config, &why.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| invalid(&config.uri, why.to_string(), ""))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read_certificates(config: &S3Config, path: &std::path::Path) -> UfsResult<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|why| bad_ca_file(config, &why.to_string()))?;
    if certificates.is_empty() {
        return Err(bad_ca_file(config, "it holds no certificate"));
    }
    Ok(certificates)
}

fn bad_ca_file(config: &S3Config, why: &str) -> UfsError {
    let path = config.ca_file.clone().unwrap_or_default();
    invalid(
        &config.uri,
        format!("option ca_file cannot be {:?}: {why}", path.display().to_string()),
        "name a readable file of certificates in PEM",
    )
}

/// The system's resolver, but that `*.localhost` is this host (RFC 6761, 6.3), which glibc does not do by itself.
#[derive(Debug)]
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            if host.ends_with(".localhost") {
                let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                return Ok(Box::new(std::iter::once(address)) as Addrs);
            }
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The error of a request that got no answer.
pub(super) fn transport_error(at: At<'_>, error: &reqwest::Error, endpoint: &str) -> UfsError {
    let text = describe(error);
    if is_tls(error) {
        return at.fail(
            UfsError::Unavailable,
            format!("no TLS connection to {endpoint}: {text}"),
            "check the endpoint's certificate; the option ca_file adds your own authority",
        );
    }
    if error.is_connect() {
        return at.fail(
            UfsError::Unavailable,
            format!("cannot reach {endpoint}: {text}"),
            "check the endpoint and the network",
        );
    }
    at.fail(UfsError::Unavailable, format!("the answer of {endpoint} broke off: {text}"), "try again")
}

/// The causes of an error, from the outside in, without what repeats itself.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn Error> = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    match parts.is_empty() {
        true => error.to_string(),
        false => parts.join(": "),
    }
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        if holds_tls(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether a cause is an error of TLS, or holds one: I/O errors do not tell what is in them as their source, and come in one another.
fn holds_tls(cause: &(dyn Error + 'static)) -> bool {
    if cause.is::<rustls::Error>() {
        return true;
    }
    let inside = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inside.is_some_and(|inside| holds_tls(inside))
}
