//! From a source to keys that sign: loaded when first needed, kept, renewed before they expire.

use crate::{AccessKeys, CredentialSource};
use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider,
    ProfileCredentialProvider, StaticCredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{
    Context, Env, FileRead, HttpSend, OsEnv, ProvideCredentialChain, ProvideCredentialDyn, SigningCredential,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A key that lives less than this is renewed before it signs.
const LIFE_LEFT_MIN: Duration = Duration::from_secs(10);
/// Metadata services answer in milliseconds; on other machines their address leads nowhere.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// The keys of one store.
#[derive(Debug)]
pub(super) struct Credentials {
    /// `None` for requests that are not signed.
    provider: Option<Arc<dyn ProvideCredentialDyn<Credential = Credential>>>,
    context: Context,
    source: &'static str,
    kept: Mutex<Option<Credential>>,
}

/// Why there are no keys.
#[derive(Debug)]
pub(super) struct CredentialError {
    pub(super) why: String,
    pub(super) hint: String,
}

impl Credentials {
    pub(super) fn new(source: &CredentialSource, http: reqwest::Client) -> Credentials {
        Credentials::in_environment(source, http, OsEnv)
    }

    fn in_environment(source: &CredentialSource, http: reqwest::Client, environment: impl Env) -> Credentials {
        let context = Context::new().with_file_read(Files).with_http_send(Metadata(http)).with_env(environment);
        Credentials { provider: provider(source), context, source: describe(source), kept: Mutex::new(None) }
    }

    /// The keys to sign with; `None` when requests are not to be signed. One caller loads, others wait for it.
    pub(super) async fn get(&self) -> Result<Option<Credential>, CredentialError> {
        let Some(provider) = &self.provider else {
            return Ok(None);
        };
        let mut kept = self.kept.lock().await;
        if let Some(fresh) = kept.as_ref().filter(|kept| kept.is_valid()) {
            return Ok(Some(fresh.clone()));
        }
        let why = match provider.provide_credential_dyn(&self.context).await {
            Ok(Some(loaded)) if lives(&loaded) => {
                *kept = Some(loaded.clone());
                return Ok(Some(loaded));
            }
            Ok(Some(_)) => "what it gives has expired".to_owned(),
            Ok(None) => "it has none".to_owned(),
            Err(error) => describe_error(&error),
        };
        // Renewal begins two minutes before the end: until then the old keys still sign.
        if let Some(old) = kept.as_ref().filter(|old| lives(old)) {
            tracing::warn!(source = self.source, why, "cannot renew credentials yet");
            return Ok(Some(old.clone()));
        }
        Err(CredentialError {
            why: format!("no credentials from {}: {why}", self.source),
            hint: "give credentials to every master and worker, or choose another source".to_owned(),
        })
    }

    /// Forgets the keys, because the store refused them: a file may have changed, a role been renewed.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

fn lives(credential: &Credential) -> bool {
    credential.is_valid_at(Timestamp::now() + LIFE_LEFT_MIN)
}

fn describe_error(error: &reqsign_core::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(&format!(": {source}"));
    }
    text
}

fn describe(source: &CredentialSource) -> &'static str {
    match source {
        CredentialSource::Automatic => "environment, profile, web identity, container or instance metadata",
        CredentialSource::Environment => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        CredentialSource::Profile(_) => "the profile",
        CredentialSource::File { .. } => "the credentials file",
        CredentialSource::InstanceMetadata => "instance metadata",
        CredentialSource::Keys(_) => "the given keys",
        CredentialSource::Anonymous => "nowhere",
    }
}

fn provider(source: &CredentialSource) -> Option<Arc<dyn ProvideCredentialDyn<Credential = Credential>>> {
    Some(match source {
        CredentialSource::Automatic => Arc::new(DefaultCredentialProvider::new()),
        CredentialSource::Environment => Arc::new(EnvCredentialProvider::new()),
        CredentialSource::Profile(name) => Arc::new(ProfileCredentialProvider::new().with_profile(name.as_str())),
        CredentialSource::File { path, profile } => Arc::new(
            ProfileCredentialProvider::new()
                .with_credentials_file(path.to_string_lossy())
                .with_config_file("/dev/null")
                .with_profile(profile.as_str()),
        ),
        CredentialSource::InstanceMetadata => Arc::new(
            ProvideCredentialChain::new().push(ECSCredentialProvider::new()).push(IMDSv2CredentialProvider::new()),
        ),
        CredentialSource::Keys(keys) => Arc::new(given(keys)),
        CredentialSource::Anonymous => return None,
    })
}

fn given(keys: &AccessKeys) -> StaticCredentialProvider {
    let provider = StaticCredentialProvider::new(&keys.access_key_id, &keys.secret_access_key);
    match &keys.session_token {
        Some(token) => provider.with_session_token(token),
        None => provider,
    }
}

/// Reads files for the providers.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|error| reqsign_core::Error::config_invalid(format!("cannot read {path}")).with_source(error))
    }
}

/// Asks metadata services for the providers.
#[derive(Debug)]
struct Metadata(reqwest::Client);

impl HttpSend for Metadata {
    async fn http_send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> reqsign_core::Result<http::Response<bytes::Bytes>> {
        let failed = |error: reqwest::Error| {
            reqsign_core::Error::unexpected("the metadata service does not answer").with_source(error)
        };
        let mut request = reqwest::Request::try_from(request).map_err(failed)?;
        *request.timeout_mut() = Some(METADATA_TIMEOUT);
        let response = self.0.execute(request).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let body = response.bytes().await.map_err(failed)?;
        answer
            .body(body)
            .map_err(|error| reqsign_core::Error::unexpected("the metadata service's answer is odd").with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqsign_core::StaticEnv;
    use std::collections::HashMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn credentials(source: CredentialSource, variables: &[(&str, &str)]) -> Credentials {
        let envs: HashMap<String, String> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(
                rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .expect("versions")
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth(),
            )
            .build()
            .expect("client");
        Credentials::in_environment(&source, http, StaticEnv { home_dir: None, envs })
    }

    async fn id(credentials: &Credentials) -> String {
        credentials.get().await.expect("credentials").expect("signed").access_key_id
    }

    #[tokio::test]
    async fn the_environment_is_one_source_and_profiles_another() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("credentials");
        std::fs::write(&file, "[p]\naws_access_key_id = file\naws_secret_access_key = s\n").expect("write");
        let file = file.to_str().expect("utf-8");
        let variables =
            [("AWS_ACCESS_KEY_ID", "env"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SHARED_CREDENTIALS_FILE", file)];
        assert_eq!(id(&credentials(CredentialSource::Environment, &variables)).await, "env");
        assert_eq!(id(&credentials(CredentialSource::Automatic, &variables)).await, "env");
        assert_eq!(id(&credentials(CredentialSource::Profile("p".into()), &variables)).await, "file");
        let error = credentials(CredentialSource::Profile("q".into()), &variables).get().await.expect_err("no q");
        assert_eq!(error.why, "no credentials from the profile: it has none");
        assert!(credentials(CredentialSource::Anonymous, &variables).get().await.expect("none").is_none());
    }

    /// A container's metadata service whose answers are keys that live so many seconds, each with a new id.
    async fn metadata_service(lives: Duration, answers: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            for number in 0..answers {
                let (mut peer, _) = listener.accept().await.expect("accept");
                let mut request = [0; 4096];
                let _ = peer.read(&mut request).await;
                let expires = Timestamp::now() + lives;
                let body = format!(
                    "{{\"AccessKeyId\":\"id{number}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"{expires}\"}}"
                );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = peer.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        format!("http://{address}/keys")
    }

    #[tokio::test]
    async fn keys_are_kept_while_fresh() {
        let url = metadata_service(Duration::from_secs(3600), 1).await;
        let kept = credentials(CredentialSource::InstanceMetadata, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
        assert_eq!(id(&kept).await, "id0");
        assert_eq!(id(&kept).await, "id0");
    }

    #[tokio::test]
    async fn keys_are_renewed_before_they_end_and_used_while_renewal_fails() {
        let url = metadata_service(Duration::from_secs(60), 2).await;
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
        let renewed = credentials(CredentialSource::InstanceMetadata, &variables);
        assert_eq!(id(&renewed).await, "id0");
        assert_eq!(id(&renewed).await, "id1");
        assert_eq!(id(&renewed).await, "id1", "the service is gone, the keys live on");
    }
}
