//! versitygw: the default. Every conditional request is right; keys must be what a file system can hold.

use std::process::Command;

use anyhow::Result;

use super::S3Server;
use super::server::{Instance, installed};

/// Starts versitygw over a directory.
#[derive(Debug)]
pub struct Versitygw;

/// What differs from the default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests signed for another region are refused.
    pub region: String,
    /// Whether buckets can be versioned (`PutBucketVersioning` turns it on for one).
    pub versioning: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { region: "us-east-1".to_owned(), versioning: false }
    }
}

impl Versitygw {
    /// A server in `us-east-1` without versioning.
    pub async fn start() -> Result<S3Server> {
        Self::start_with(&Options::default()).await
    }

    /// A server with options.
    pub async fn start_with(options: &Options) -> Result<S3Server> {
        let program = installed("versitygw", "versitygw")?;
        S3Server::start("versitygw", &options.region, |instance: &Instance<'_>| {
            let mut command = Command::new(&program);
            command
                .env("ROOT_ACCESS_KEY", &instance.access.access_key)
                .env("ROOT_SECRET_KEY", &instance.access.secret_key)
                .arg(format!("--port=127.0.0.1:{}", instance.port))
                .arg(format!("--region={}", options.region))
                .args(["--quiet", "--keep-alive", "posix"]);
            if options.versioning {
                let versions = instance.dir.join("versions");
                std::fs::create_dir_all(&versions)?;
                command.arg("--versioning-dir").arg(versions);
            }
            command.arg(instance.data);
            Ok(command)
        })
        .await
    }
}
