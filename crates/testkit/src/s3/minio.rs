//! MinIO: the server that users have most. Lists hide the children of an object; `If-Match` on DELETE is ignored.

use std::process::Command;

use anyhow::Result;

use super::S3Server;
use super::server::{Instance, installed};

/// Starts MinIO over a directory.
#[derive(Debug)]
pub struct Minio;

impl Minio {
    /// A server in `us-east-1`.
    pub async fn start() -> Result<S3Server> {
        let program = installed("minio", "minio")?;
        S3Server::start("minio", "us-east-1", |instance: &Instance<'_>| {
            let mut command = Command::new(&program);
            command
                .env("MINIO_ROOT_USER", &instance.access.access_key)
                .env("MINIO_ROOT_PASSWORD", &instance.access.secret_key)
                // It keeps certificates and settings in the home directory otherwise.
                .env("HOME", instance.dir)
                .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off"), ("MINIO_CI_CD", "1")])
                .args(["server", "--quiet"])
                .arg(format!("--address=127.0.0.1:{}", instance.port))
                .arg(instance.data);
            Ok(command)
        })
        .await
    }
}
