//! One Redis process of one test: its own port and folder, ended by its own process id.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::free_port;

/// A running `redis-server` that appends every write to its folder, so that a restart finds them again.
pub struct RedisDb {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl RedisDb {
    /// Whether `redis-server` can be started here.
    pub fn is_installed() -> bool {
        let answer = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        answer.is_ok_and(|status| status.success())
    }

    /// Starts one; a port that somebody else took meanwhile is given up for the next.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("retainai-redis-").tempdir()?;
        let mut last = None;
        for _ in 0..8 {
            let port = free_port();
            match launch(&folder, port).await {
                Ok(child) => return Ok(Self { folder, port, child }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("at least one try"))
    }

    /// The address to hand to a program.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A new connection for the test itself.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(self.port).await.expect("a connection to the test's Redis")
    }

    /// Forgets everything, as an operator's FLUSHALL does.
    pub async fn flush_all(&self) {
        let mut connection = self.connection().await;
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.expect("FLUSHALL");
    }

    /// Ends the server at once, as a power cut does.
    pub fn kill9(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port and folder; what it had written to disk is there again.
    pub async fn restart(&mut self) {
        self.kill9();
        self.child = launch(&self.folder, self.port).await.expect("the test's Redis starts again");
    }
}

impl Drop for RedisDb {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Returns once this very process answers: another server on the same port would have another process id.
async fn launch(folder: &TempDir, port: u16) -> Result<Child> {
    let log = folder.path().join("log");
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""])
        .args(["--appendonly", "yes", "--maxmemory-policy", "noeviction", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()
        .context("starting redis-server")?;
    let own_id = format!("process_id:{}", child.id());
    for _ in 0..500 {
        if child.try_wait()?.is_some() {
            bail!("redis-server ended at once: {}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        if server_info(port).await.is_ok_and(|text| text.lines().any(|line| line.trim_end() == own_id)) {
            return Ok(child);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill()?;
    child.wait()?;
    bail!("redis-server did not answer: {}", std::fs::read_to_string(&log).unwrap_or_default());
}

/// Fails also while the server is still loading what it had written.
async fn server_info(port: u16) -> Result<String> {
    let mut connection = connect(port).await?;
    redis::cmd("PING").exec_async(&mut connection).await?;
    Ok(redis::cmd("INFO").arg("server").query_async(&mut connection).await?)
}

async fn connect(port: u16) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}
