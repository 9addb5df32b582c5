//! Our programs as processes: started in a clean environment, read by their log, stopped politely or not.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{eventually, http};

/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 80;

/// The product's binary with these arguments.
pub fn retainai<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Program {
    Program::new(built("retainai")).args(arguments)
}

/// The stand-in exchange with these arguments.
pub fn market_sim<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Program {
    Program::new(built("market-sim")).args(arguments)
}

/// Where one of our programs lies.
pub fn path_of(name: &str) -> PathBuf {
    built(name)
}

/// Where `make test` has built our programs; a plain `cargo nextest run` finds them beside the tests.
fn built(name: &str) -> PathBuf {
    let folder = std::env::var_os("RETAINAI_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("the path of this test");
        test.ancestors().nth(2).expect("tests lie in PROFILE/deps").to_owned()
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: cargo build --profile ci --workspace --bins", path.display());
    path
}

/// A program about to be started. Its environment is empty but for what is given here; its working folder is new.
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

impl Program {
    /// Any program, by path or by a name on the PATH.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new(), environment: Vec::new(), folder: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts it in this folder instead of a new one.
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts it and lets it run; what it prints goes to its log.
    pub fn spawn(self) -> Running {
        let own = own_folder();
        let log = own.path().join("log");
        let file = File::create(&log).expect("a log file");
        let mut command = self.command(&own);
        command.stdout(file.try_clone().expect("the log file twice")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{} did not start: {error}", self.path.display()));
        Running { name: self.name(), child, log, own }
    }

    /// Runs it to its end and returns what it printed; fails the test when `limit` passes first.
    pub async fn output(self, limit: Duration) -> Finished {
        let own = own_folder();
        let (stdout, stderr) = (own.path().join("stdout"), own.path().join("log"));
        let mut command = self.command(&own);
        command.stdout(File::create(&stdout).expect("a file")).stderr(File::create(&stderr).expect("a file"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{} did not start: {error}", self.path.display()));
        let mut running = Running { name: self.name(), child, log: stderr.clone(), own };
        let status = running.wait(limit).await;
        Finished { code: status.code(), stdout: read(&stdout), stderr: read(&stderr) }
    }

    fn command(&self, own: &TempDir) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", own.path())
            .env("TMPDIR", own.path())
            .env("TZ", "UTC")
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.as_deref().unwrap_or(own.path()))
            .stdin(Stdio::null());
        command
    }

    fn name(&self) -> String {
        let words = std::iter::once(self.path.file_name().unwrap_or_default())
            .chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

impl Finished {
    /// The one JSON document on stdout.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON document ({error}): {self:#?}"))
    }
}

/// A process of this test. Dropping it kills it; when the test fails, the end of its log is shown.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    own: TempDir,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its own folder, in which it was started unless another was given.
    pub fn folder(&self) -> &Path {
        self.own.path()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until a whole line of the log holds `text`, and returns that line. Fails at once when the process ends.
    pub async fn wait_for_line(&mut self, text: &str, limit: Duration) -> String {
        let what = format!("`{text}` in the log of {}", self.name);
        let (child, log) = (&mut self.child, &self.log);
        eventually(&what, limit, || {
            // The end is looked for first, so that the last lines are read after it.
            let ended = child.try_wait().expect("the state of a child");
            let found = line_with(&read(log), text);
            assert!(found.is_some() || ended.is_none(), "the process ended ({ended:?}) before {what}");
            std::future::ready(found)
        })
        .await
    }

    /// Waits until this address answers 2xx. Fails at once when the process ends.
    pub async fn wait_for_http(&mut self, url: &str, limit: Duration) {
        let what = format!("a good answer of {} at {url}", self.name);
        let child = &mut self.child;
        eventually(&what, limit, || {
            let ended = child.try_wait().expect("the state of a child");
            assert!(ended.is_none(), "the process ended ({ended:?}) before {what}");
            async { http::status(url).await.filter(|code| (200..300).contains(code)) }
        })
        .await;
    }

    /// Ends it at once: no clean-up, no farewell.
    pub async fn kill9(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        self.wait(Duration::from_secs(10)).await;
    }

    /// Asks it to stop, as Kubernetes and Ctrl-C do; `wait` tells how it ended.
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Sends any signal by name: `STOP` and `CONT` make a worker that hangs and wakes.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} did not reach {}", self.name);
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_none()
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        eventually(&what, limit, || std::future::ready(child.try_wait().expect("the state of a child"))).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            eprintln!("---- the end of what {} printed\n{}\n----", self.name, tail.join("\n"));
        }
    }
}

fn own_folder() -> TempDir {
    tempfile::Builder::new().prefix("retainai-test-").tempdir().expect("a folder for this process")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Only a line that is complete: the writer may be in the middle of the last one.
fn line_with(log: &str, text: &str) -> Option<String> {
    log.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .find(|line| line.contains(text))
        .map(str::to_owned)
}
