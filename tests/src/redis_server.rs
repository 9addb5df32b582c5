//! One Redis process of one test: its own port and folder, ended by its own process id.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis::TlsCertificates;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::free_port;
use crate::tls::Authority;

/// How a Redis differs from the plain one.
#[derive(Default)]
pub struct RedisOptions<'a> {
    /// Speaks only TLS, with a certificate of this authority for these names.
    pub tls: Option<(&'a Authority, &'a [&'a str])>,
    /// The only user, and his password; nobody else is let in.
    pub user: Option<(&'a str, &'a str)>,
    /// More arguments of `redis-server`; they win.
    pub arguments: &'a [&'a str],
    /// The process group that it joins, instead of this process' own.
    pub group: Option<i32>,
}

/// A running `redis-server` that appends every write to its folder, so that a restart finds them again.
pub struct RedisDb {
    _folder: TempDir,
    launch: Launch,
    child: Child,
}

/// What starts it and how it is reached.
struct Launch {
    port: u16,
    arguments: Vec<String>,
    log: PathBuf,
    url: String,
    ca: Option<Vec<u8>>,
    group: Option<i32>,
}

impl RedisDb {
    /// Whether `redis-server` can be started here.
    pub fn is_installed() -> bool {
        let answer = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        answer.is_ok_and(|status| status.success())
    }

    /// Starts a plain one.
    pub async fn start() -> Result<Self> {
        Self::start_with(&RedisOptions::default()).await
    }

    /// Starts one; a port that somebody else took meanwhile is given up for the next.
    pub async fn start_with(options: &RedisOptions<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("retainai-redis-").tempdir()?;
        let mut last = None;
        for _ in 0..8 {
            let launch = Launch::new(options, &folder, free_port())?;
            match launch.start().await {
                Ok(child) => return Ok(Self { _folder: folder, launch, child }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("at least one try"))
    }

    /// The address to hand to a program, with user and password where there are any.
    pub fn url(&self) -> String {
        self.launch.url.clone()
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// A new connection for the test itself.
    pub async fn connection(&self) -> MultiplexedConnection {
        self.launch.connect().await.expect("a connection to the test's Redis")
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
        self.child = self.launch.start().await.expect("the test's Redis starts again");
    }
}

impl Drop for RedisDb {
    fn drop(&mut self) {
        self.kill9();
    }
}

impl Launch {
    fn new(options: &RedisOptions<'_>, folder: &TempDir, port: u16) -> Result<Self> {
        let place = folder.path();
        let mut arguments: Vec<String> =
            ["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--appendonly", "yes"].map(str::to_owned).into();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--maxmemory-policy", "noeviction".to_owned());
        add("--dir", place.display().to_string());
        let ca = match options.tls {
            None => {
                add("--port", port.to_string());
                None
            }
            Some((authority, names)) => {
                let files = authority.server(names, place);
                add("--port", "0".to_owned());
                add("--tls-port", port.to_string());
                add("--tls-cert-file", files.certificate.display().to_string());
                add("--tls-key-file", files.key.display().to_string());
                add("--tls-ca-cert-file", authority.file().display().to_string());
                add("--tls-auth-clients", "no".to_owned());
                Some(std::fs::read(authority.file())?)
            }
        };
        let mut login = String::new();
        if let Some((user, password)) = options.user {
            // A file, for the command line takes a value of several words apart.
            let users = place.join("users.acl");
            std::fs::write(&users, format!("user default off\nuser {user} on >{password} ~* &* +@all\n"))?;
            add("--aclfile", users.display().to_string());
            login = format!("{user}:{password}@");
        }
        arguments.extend(options.arguments.iter().map(|argument| (*argument).to_owned()));
        let scheme = if ca.is_some() { "rediss" } else { "redis" };
        // By name where the certificate knows no address.
        let host = match options.tls {
            Some((_, names)) if !names.contains(&"127.0.0.1") => names.first().copied().unwrap_or("localhost"),
            _ => "127.0.0.1",
        };
        let url = format!("{scheme}://{login}{host}:{port}");
        Ok(Self { port, arguments, log: place.join("log"), url, ca, group: options.group })
    }

    /// Returns once this very process answers: another server on the same port would have another process id.
    async fn start(&self) -> Result<Child> {
        let mut command = Command::new("redis-server");
        if let Some(group) = self.group {
            command.process_group(group);
        }
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&self.log)?)
            .stderr(Stdio::null())
            .spawn()
            .context("starting redis-server")?;
        let own_id = format!("process_id:{}", child.id());
        for _ in 0..500 {
            if child.try_wait()?.is_some() {
                bail!("redis-server ended at once: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
            }
            if self.info().await.is_ok_and(|text| text.lines().any(|line| line.trim_end() == own_id)) {
                return Ok(child);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.kill()?;
        child.wait()?;
        bail!("redis-server did not answer: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// Fails also while the server is still loading what it had written.
    async fn info(&self) -> Result<String> {
        let mut connection = self.connect().await?;
        redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(redis::cmd("INFO").arg("server").query_async(&mut connection).await?)
    }

    async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = match &self.ca {
            None => redis::Client::open(self.url.as_str())?,
            Some(pem) => {
                // Only the first of a process is taken; a second is no fault.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
                redis::Client::build_with_tls(self.url.as_str(), certificates)?
            }
        };
        Ok(client.get_multiplexed_async_connection().await?)
    }
}
