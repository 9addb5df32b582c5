//! A PostgreSQL of our own that may be killed: a child process on a free port with throw-away data. It refuses to run as root, so root runs it
//! as the user `postgres`.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long it may take to recover and answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends it and deletes its data.
pub struct Postgres {
    folder: TempDir,
    log: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    group: i32,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it as a process of this group. Its log goes to `log`.
    pub async fn start(log: PathBuf, group: i32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("retainai-chaos-pg-").tempdir()?;
        let user = match rustix::process::getuid().is_root() {
            true => Some((number_of(&["-u", "postgres"])?, number_of(&["-g", "postgres"])?)),
            false => None,
        };
        if let Some((user, group)) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group))?;
        }
        let mut server = Self { programs: programs()?, folder, log, user, group, port: 0, child: None };
        let made = server
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=retainai", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(server.data())
            .stdout(Stdio::null())
            .output()
            .context("initdb")?;
        anyhow::ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let mut last = None;
        for _ in 0..8 {
            server.port = product_tests::free_port();
            match server.launch().await {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no port was tried")?)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address to hand to a program that connects to `port`: this server's, or a proxy's.
    pub fn url_at(port: u16) -> String {
        format!("postgres://retainai@127.0.0.1:{port}/postgres")
    }

    /// The address of the server itself.
    pub fn url(&self) -> String {
        Self::url_at(self.port)
    }

    /// Kills the postmaster and all its children, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let children = children_of(child.id());
        // Errors mean that it has ended already.
        let _ = child.kill();
        for pid in children {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = child.wait();
    }

    /// Kills one of its children; the postmaster then throws out all the others and recovers. False when there is none.
    pub fn kill_a_backend(&self, nth: usize) -> bool {
        let Some(child) = &self.child else { return false };
        let children = children_of(child.id());
        match children.get(nth % children.len().max(1)) {
            Some(pid) => kill_process(*pid, Signal::KILL).is_ok(),
            None => false,
        }
    }

    /// Starts it again on the same port and data; returns when it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let mut last = None;
        // Its shared memory is in use until the last child of the former one has gone.
        for _ in 0..50 {
            match self.launch().await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(last.context("it was never started")?)
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-c", "max_connections=300"])
            .arg("-k")
            .arg(self.folder.path())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting postgres")?;
        let began = tokio::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                bail!("postgres ended at once ({status}); its log is {}", self.log.display());
            }
            if self.answers(child.id()).await {
                self.child = Some(child);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        child.kill()?;
        child.wait()?;
        bail!("postgres did not answer within {} s; its log is {}", PATIENCE.as_secs(), self.log.display());
    }

    /// Whether this very process answers: another server may have been quicker to take the port.
    async fn answers(&self, pid: u32) -> bool {
        let ours = std::fs::read_to_string(self.data().join("postmaster.pid"))
            .is_ok_and(|text| text.lines().next() == Some(pid.to_string().as_str()));
        if !ours {
            return false;
        }
        let Ok(mut connection) = PgConnection::connect(&self.url()).await else { return false };
        let answered = sqlx::query("select 1").execute(&mut connection).await.is_ok();
        let _ = connection.close().await;
        answered
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.process_group(self.group);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn number_of(arguments: &[&str]) -> anyhow::Result<u32> {
    let output = Command::new("id").args(arguments).output().context("id")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("PostgreSQL does not run as root, and there is no user `postgres`")
}

/// The folder of the newest PostgreSQL here. Debian keeps its programs off the PATH.
fn programs() -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for home in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
            found.push(entry.path().join("bin"));
        }
    }
    let path = Command::new("sh").args(["-c", "command -v initdb"]).output().context("sh")?;
    let on_path = PathBuf::from(String::from_utf8_lossy(&path.stdout).trim());
    found.extend(on_path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned)));
    let version = |path: &PathBuf| path.components().rev().nth(1).map(|part| part.as_os_str().to_owned());
    found.retain(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    found.sort_by_key(version);
    found.pop().context("no PostgreSQL server is installed here: scripts/setup.sh test brings one")
}

/// The children of a process: from /proc where there is one, else from `pgrep`.
fn children_of(parent: u32) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return children_by_pgrep(parent) };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; the parent is the second word after it.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    })
    .filter_map(Pid::from_raw)
    .collect()
}

fn children_by_pgrep(parent: u32) -> Vec<Pid> {
    let Ok(output) = Command::new("pgrep").args(["-P", &parent.to_string()]).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}
