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
    source: CredentialSource,
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
        Credentials { provider: provider(source), context, source: source.clone(), kept: Mutex::new(None) }
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
            Ok(None) => self.missing().await.unwrap_or_else(|| "it has none".to_owned()),
            Err(error) => match (self.missing().await, &self.source) {
                (Some(missing), CredentialSource::File { .. }) => missing,
                // Another of its files may be what is wrong.
                (Some(missing), _) => format!("{}; {missing}", describe_error(&error)),
                (None, _) => describe_error(&error),
            },
        };
        let source = describe(&self.source);
        // Renewal begins two minutes before the end: until then the old keys still sign.
        if let Some(old) = kept.as_ref().filter(|old| lives(old)) {
            tracing::warn!(source, why, "cannot renew credentials yet");
            return Ok(Some(old.clone()));
        }
        Err(CredentialError {
            why: format!("no credentials from {source}: {why}"),
            hint: "give credentials to every master and worker, or choose another source".to_owned(),
        })
    }

    /// What is missing of the files of a profile or in them, if that is why there are no keys.
    async fn missing(&self) -> Option<String> {
        match &self.source {
            CredentialSource::File { path, profile } => missing_of(&path.to_string_lossy(), profile, profile).await,
            CredentialSource::Profile(profile) => {
                let keys = self.path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")?;
                let keys = missing_of(&keys, profile, profile).await?;
                let section = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
                let config = self.path("AWS_CONFIG_FILE", "~/.aws/config")?;
                let config = missing_of(&config, &section, profile).await?;
                Some(format!("{keys}; {config}"))
            }
            _ => None,
        }
    }

    /// The file that a variable names, or the usual one.
    fn path(&self, variable: &str, usual: &str) -> Option<String> {
        let named = self.context.env_var(variable);
        self.context.expand_home_dir(named.as_deref().unwrap_or(usual))
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

fn describe(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Automatic => "environment, profile, web identity, container or instance metadata".to_owned(),
        CredentialSource::Environment => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        CredentialSource::Profile(profile) => format!("the profile {profile:?}"),
        CredentialSource::File { path, profile } => format!("the profile {profile:?} of {}", path.display()),
        CredentialSource::InstanceMetadata => "instance metadata".to_owned(),
        CredentialSource::Keys(_) => "the given keys".to_owned(),
        CredentialSource::Anonymous => "nowhere".to_owned(),
    }
}

/// What a file or a profile in it lacks; nothing when it is there with both keys.
async fn missing_of(path: &str, section: &str, profile: &str) -> Option<String> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => missing_in(&text, section, profile).map(|missing| format!("{path} {missing}")),
        Err(error) => Some(format!("cannot read {path}: {error}")),
    }
}

fn missing_in(text: &str, section: &str, profile: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.skip_while(|line| {
        line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).is_none_or(|name| name.trim() != section)
    });
    if lines.next().is_none() {
        return Some(format!("has no profile {profile:?}"));
    }
    let names: Vec<&str> = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(name, _)| name.trim())
        .collect();
    let wanted = ["aws_access_key_id", "aws_secret_access_key"];
    let missing = wanted.into_iter().filter(|wanted| !names.contains(wanted)).collect::<Vec<_>>().join(" and no ");
    (!missing.is_empty()).then(|| format!("has no {missing} in its profile {profile:?}"))
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
        let config = dir.path().join("config");
        let variables = [
            ("AWS_ACCESS_KEY_ID", "env"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SHARED_CREDENTIALS_FILE", file),
            ("AWS_CONFIG_FILE", config.to_str().expect("utf-8")),
        ];
        assert_eq!(id(&credentials(CredentialSource::Environment, &variables)).await, "env");
        assert_eq!(id(&credentials(CredentialSource::Automatic, &variables)).await, "env");
        assert_eq!(id(&credentials(CredentialSource::Profile("p".into()), &variables)).await, "file");
        for (text, missing) in [
            ("", "has no profile \"q\""),
            ("[profile q]\nregion = r\n", "has no aws_access_key_id and no aws_secret_access_key in its profile \"q\""),
        ] {
            std::fs::write(&config, text).expect("write");
            let error = credentials(CredentialSource::Profile("q".into()), &variables).get().await.expect_err("no q");
            assert!(error.why.starts_with("no credentials from the profile \"q\": "), "{}", error.why);
            let why = format!("{file} has no profile \"q\"; {} {missing}", config.display());
            assert!(error.why.ends_with(&why), "{}", error.why);
        }
        let of_file = |path: &str, profile: &str| {
            credentials(CredentialSource::File { path: path.into(), profile: profile.into() }, &[])
        };
        std::fs::write(file, "[half]\naws_access_key_id = x\n[p]\naws_secret_access_key = s\n").expect("write");
        for (path, profile, missing) in [
            (file, "half", "has no aws_secret_access_key in its profile \"half\""),
            (file, "p", "has no aws_access_key_id in its profile"),
            (file, "q", "has no profile \"q\""),
            ("/nosuch", "default", "cannot read /nosuch: "),
        ] {
            let why = of_file(path, profile).get().await.expect_err(missing).why;
            let named = format!("the profile {profile:?} of {path}: ");
            assert!(why.contains(&named) && why.contains(missing), "{why}");
        }
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

    /// The metadata service of a virtual machine, version 2: a token first, which each question carries; then the role's name, then its keys.
    /// Gives what it was asked, in order.
    async fn machine_metadata(lives: Duration) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            let mut keys = 0;
            loop {
                let (mut peer, _) = listener.accept().await.expect("accept");
                let mut request = vec![0; 4096];
                let got = peer.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..got]).to_lowercase();
                let line = request.lines().next().unwrap_or_default().trim_end_matches(" http/1.1").to_owned();
                let has_token = request.contains("x-aws-ec2-metadata-token: the-token");
                let (status, body) = match line.as_str() {
                    "put /latest/api/token" if request.contains("x-aws-ec2-metadata-token-ttl-seconds: ") => {
                        (200, "the-token".to_owned())
                    }
                    _ if !has_token => (401, String::new()),
                    "get /latest/meta-data/iam/security-credentials/" => (200, "the-role".to_owned()),
                    "get /latest/meta-data/iam/security-credentials/the-role" => {
                        keys += 1;
                        let expires = Timestamp::now() + lives;
                        let secret = r#""SecretAccessKey":"s","Token":"t","Code":"Success""#;
                        (200, format!(r#"{{{secret},"AccessKeyId":"machine{keys}","Expiration":"{expires}"}}"#))
                    }
                    _ => (404, String::new()),
                };
                seen.lock().await.push(line);
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = peer.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        (format!("http://{address}"), asked)
    }

    #[tokio::test]
    async fn a_machine_has_the_keys_of_its_role() {
        let (endpoint, asked) = machine_metadata(Duration::from_secs(3600)).await;
        let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
        let of_machine = credentials(CredentialSource::InstanceMetadata, &variables);
        let found = of_machine.get().await.expect("credentials").expect("signed");
        assert_eq!((found.access_key_id.as_str(), found.session_token.as_deref()), ("machine1", Some("t")));
        let role = "get /latest/meta-data/iam/security-credentials/";
        assert_eq!(*asked.lock().await, ["put /latest/api/token", role, &format!("{role}the-role")]);
        assert_eq!(id(&of_machine).await, "machine1", "kept while fresh");
        assert_eq!(asked.lock().await.len(), 3);

        // Those that end soon are renewed, with the token that is still good.
        let (endpoint, asked) = machine_metadata(Duration::from_secs(60)).await;
        let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
        let of_machine = credentials(CredentialSource::InstanceMetadata, &variables);
        assert_eq!(id(&of_machine).await, "machine1");
        assert_eq!(id(&of_machine).await, "machine2");
        assert_eq!(asked.lock().await.iter().filter(|line| line.starts_with("put")).count(), 1);

        let variables =
            [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
        let error = credentials(CredentialSource::InstanceMetadata, &variables).get().await.expect_err("switched off");
        assert_eq!(error.why, "no credentials from instance metadata: it has none");
    }
}
