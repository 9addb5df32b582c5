//! One PostgreSQL server of one test, for what the shared one does not do: TLS and passwords. It costs a second or two to make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::free_port;
use crate::tls::Authority;

/// A running server that lets nobody in without TLS and a password.
pub struct TlsPostgres {
    folder: TempDir,
    port: u16,
}

impl TlsPostgres {
    /// The user.
    pub const USER: &str = "retainai";
    /// Its password.
    pub const PASSWORD: &str = "open-sesame-17";

    /// Whether the programs of a PostgreSQL server lie here.
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    /// Makes and starts one.
    pub async fn start(authority: &Authority, names: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("retainai-pg-").tempdir()?;
        let files = authority.server(names, folder.path());
        std::fs::write(folder.path().join("password"), Self::PASSWORD)?;
        hand_over(folder.path())?;
        let data = folder.path().join("data");
        let password = format!("--pwfile={}", folder.path().join("password").display());
        program("initdb")?
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--username", Self::USER])
            .arg(password)
            .arg("-D")
            .arg(&data)
            .ended()?;
        let mut last = None;
        for _ in 0..8 {
            let port = free_port();
            let options = format!(
                "-p {port} -h 127.0.0.1 -k {} -c ssl=on -c ssl_cert_file={} -c ssl_key_file={}",
                folder.path().display(),
                files.certificate.display(),
                files.key.display()
            );
            let started = program("pg_ctl")?
                .args(["start", "-s", "-w", "-t", "60", "-o", &options, "-l"])
                .arg(folder.path().join("log"))
                .arg("-D")
                .arg(&data)
                .ended();
            match started {
                Ok(()) => return Ok(Self { folder, port }),
                Err(error) => {
                    last = Some(error.context(std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()));
                }
            }
        }
        Err(last.expect("at least one try"))
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A URL for its first database, by this host name and password, checked against this authority.
    pub fn url(&self, host: &str, password: &str, authority: &Path) -> String {
        format!(
            "postgres://{}:{password}@{host}:{}/postgres?sslmode=verify-full&sslrootcert={}",
            Self::USER,
            self.port,
            authority.display()
        )
    }
}

impl Drop for TlsPostgres {
    fn drop(&mut self) {
        // pg_ctl signals the process named in this folder's own file; what cannot be stopped goes with the container.
        let stopped = program("pg_ctl").and_then(|mut call| {
            call.args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.folder.path().join("data")).ended()
        });
        if let Err(error) = stopped {
            eprintln!("a test's PostgreSQL could not be stopped: {error:#}");
        }
    }
}

/// The folder of the newest server here; Debian keeps its programs off the PATH.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|bin| bin.join("initdb").exists()).max()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// One of them; PostgreSQL refuses to run as root, so root runs it as its own user.
fn program(name: &str) -> Result<Command> {
    let path = programs().context("PostgreSQL is not installed")?.join(name);
    if !is_root() {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(path).current_dir("/");
    Ok(command)
}

/// Gives the folder to the user who runs the server; it reads the key only where nobody else may.
fn hand_over(folder: &Path) -> Result<()> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    for file in files {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    if is_root() {
        Command::new("chown").args(["-R", "postgres"]).arg(folder).ended()?;
    }
    Ok(())
}

/// Runs a program to its end; what it printed is the error.
trait Ended {
    fn ended(&mut self) -> Result<()>;
}

impl Ended for Command {
    fn ended(&mut self) -> Result<()> {
        // Not a pipe for pg_ctl's sake: the server would hold it open.
        let told = tempfile::NamedTempFile::new()?;
        let status = self.stdin(Stdio::null()).stdout(told.reopen()?).stderr(told.reopen()?).status()?;
        if !status.success() {
            bail!("{self:?} ended with {status}: {}", std::fs::read_to_string(told.path())?);
        }
        Ok(())
    }
}
