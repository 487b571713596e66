//! moto: a mock that stores and lists every odd key (`a` beside `a/b`, `//`, `..`) and checks no signature.

use std::process::Command;

use anyhow::Result;

use super::S3Server;
use super::server::{Instance, installed};

/// Starts moto's server; its data is in its memory.
#[derive(Debug)]
pub struct Moto;

impl Moto {
    /// A server in `us-east-1`.
    pub async fn start() -> Result<S3Server> {
        let program = installed("moto", "bin/moto_server")?;
        S3Server::start("moto", "us-east-1", |instance: &Instance<'_>| {
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p"]).arg(instance.port.to_string());
            command.current_dir(instance.dir);
            Ok(command)
        })
        .await
    }
}
